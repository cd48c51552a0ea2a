"""Look for known vulnerabilities in the locked packages.

    python -m ci.audit    # `make audit`

.github/accepted-vulnerabilities.txt has a line for each that does no harm here: its id, two spaces, the reason. Exits
with 1 on any other, on a line that is not needed any more, and on a package that could not be looked up, which
pip-audit itself takes for a good result.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ci import github

ACCEPTED = Path(".github/accepted-vulnerabilities.txt")
NO_ANSWER = re.compile(r"requests\.exceptions|urllib3\.exceptions|Could not connect|timed? ?out", re.IGNORECASE)
UNREACHABLE = (
    "no package could be looked up: https://pypi.org does not answer from here, or a proxy answers for it. Look at the"
    " network, HTTPS_PROXY and REQUESTS_CA_BUNDLE, then `make audit` again."
)
LOCKS = ("requirements.txt", "requirements-dev.txt", "requirements-uv.txt")


def accepted(text: str) -> dict[str, str]:
    """Return the reasons by id. Raises ValueError for a line without one."""
    reasons = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, reason = line.partition("  ")
            if not reason.strip():
                raise ValueError(f"{ACCEPTED}: {line!r} is not an id, two spaces and a reason.")
            reasons[name] = reason.strip()
    return reasons


def command() -> list[str]:
    """Return the call of pip-audit, which takes the locks as they are and installs nothing."""
    files = [part for name in LOCKS for part in ("--requirement", name)]
    return ["pip-audit", *files, "--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", "off"]


def faults(packages: list[dict[str, Any]], reasons: dict[str, str]) -> Iterator[str]:
    """Yield a sentence for each thing to mend in what pip-audit found of each package."""
    found: set[str] = set()
    skipped = [package for package in packages if "skip_reason" in package]
    for package in skipped:
        yield f"{package['name']} could not be looked up: {package['skip_reason']}."
    for package in packages:
        for vulnerability in package.get("vulns", []):
            names = {vulnerability["id"], *vulnerability["aliases"]}
            found |= names
            if not names & reasons.keys():
                mended = ", ".join(vulnerability["fix_versions"]) or "no version yet"
                yield f"{package['name']} {package['version']} has {vulnerability['id']}, mended in {mended}."
    for name in sorted(reasons.keys() - found) if not skipped else ():
        yield f"{name} is accepted in {ACCEPTED}, but no package has it any more: delete its line."


def main() -> None:
    """Print the faults, and set the first as the output `fault`."""
    try:
        reasons = accepted(ACCEPTED.read_text(encoding="utf-8"))
        done = subprocess.run(command(), capture_output=True, text=True, check=False)  # 1 if it found anything
        if not done.stdout:
            last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            raise ValueError(UNREACHABLE if NO_ANSWER.search(last) else f"pip-audit failed: {last}")
        packages = json.loads(done.stdout)["dependencies"]
        if packages and all("skip_reason" in package for package in packages):
            raise ValueError(UNREACHABLE)
    except (OSError, ValueError) as error:
        github.output(fault=f"audit: {error}")  # for alert.py
        sys.exit(f"audit: {error}")
    found = list(faults(packages, reasons))
    for fault in found:
        print(fault)
    print(f"audit: {len(packages)} packages, {len(reasons)} accepted vulnerabilities, {len(found)} faults")
    if found:
        github.output(fault=found[0])
        sys.exit(1)


if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    main()
