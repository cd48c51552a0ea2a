"""Copy the files that an artifact consists of, named from the deepest folder that all of the paths have in common."""

import os
import shutil
import sys
from pathlib import Path

here = Path.cwd()
target = Path(os.environ["FAKE_ARTIFACTS"], os.environ["GITHUB_RUN_ID"], os.environ["NAME"])
if target.exists():
    sys.exit(f"The artifact {target.name} exists already.")
tops = [top for path in os.environ["PATHS"].split() for top in here.glob(path)]
files = {file for top in tops for file in ([top] if top.is_file() else top.rglob("*")) if file.is_file()}
if os.environ["HIDDEN"] != "true":
    files = {file for file in files if not any(part.startswith(".") for part in file.relative_to(here).parts)}
if not files:
    print(f"No files were found with the provided path: {os.environ['PATHS']}")
    sys.exit(os.environ["IF_NONE"] == "error")
root = Path(os.path.commonpath([top.parent if top.is_file() else top for top in tops]))
for file in files:
    copy = target / file.relative_to(root)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, copy)
