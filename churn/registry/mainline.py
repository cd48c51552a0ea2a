"""Decides whether this checkout may move champion: only a clean checkout of `register.promote_from` may.

Without that setting it is the remote's default branch. HEAD is on it, on the remote's where there is a remote. No file
that a stage reads differs from HEAD. dvc.lock was made from these files. A source that Git does not determine, such as
a database, has the snapshot of HEAD's dvc.lock. This guards against a mistake: an account that may write to the
registry can also set an alias by hand.
"""

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any, NamedTuple

from churn.config.params import Params, load_params
from churn.core.dvc_files import filled, hash_of, stages_in, value_at
from churn.core.errors import StageError
from churn.core.files import YAML_LENGTH, read_text, read_yaml
from churn.core.git import git
from churn.core.paths import LOCK, PARAMS

PIPELINE = Path("dvc.yaml")
BY_DEFAULT = "main"
EXPERIMENT = ("DVC_EXP_BASELINE_REV", "DVC_EXP_NAME")  # what `dvc exp run` sets for its stages
IMPORT = re.compile(r"^\s*(?:from|import)\s+(\w+)", re.MULTILINE)
REGISTER = "`dvc repro --force --single-item register`"


class Branch(NamedTuple):
    """The branch that promotes, such as origin/main; `remote` is empty where the repository has none."""

    remote: str
    branch: str

    @property
    def name(self) -> str:
        """Its name for people."""
        return f"{self.remote}/{self.branch}" if self.remote else self.branch

    @property
    def ref(self) -> str:
        """Its name for Git."""
        return f"refs/remotes/{self.name}" if self.remote else f"refs/heads/{self.name}"


def promoting_branch(params: Params) -> Branch:
    """Return the branch that promotes: of the remote origin, or of the only remote, or of a repository without any."""
    remotes = (git("remote") or "").split()
    remote = "origin" if remotes[1:] else "".join(remotes)
    return Branch(remote, params.registration.promote_from or _default(remote) or BY_DEFAULT)


def _default(remote: str) -> str | None:
    """Return the remote's default branch, None where the clone does not know it."""
    named = git("symbolic-ref", "--quiet", f"refs/remotes/{remote}/HEAD")
    return named and named.removeprefix(f"refs/remotes/{remote}/")


def why_not(params: Params, main: Branch) -> str | None:
    """Return why champion cannot move from here, and what would move it; None in a clean checkout of `main`."""
    try:
        return next(_reasons(params, main), None)
    except (AttributeError, KeyError, TypeError) as error:
        raise StageError(f"{PIPELINE} or {LOCK} is not as DVC writes it: `dvc status` says where.") from error


def _reasons(params: Params, main: Branch) -> Iterator[str]:
    """Yield what keeps champion from moving, each with the next step."""
    there = f"merge it into {main.name}, and {REGISTER} moves champion there"
    if any(variable in os.environ for variable in EXPERIMENT):
        yield f"this is an experiment of DVC; `dvc exp apply` it, commit it, {there}"
    default = Branch(main.remote, _default(main.remote) or "") if main.remote else main
    if main.remote and git("remote", "get-url", main.remote) is None:
        yield f"no remote is called {main.remote}; `git remote rename OLD {main.remote}`, then {REGISTER}"
    if not default.branch:
        ask = f"`git remote set-head {main.remote} --auto`"
        yield f"this clone does not know the default branch of {main.remote}; {ask}, then {REGISTER}"
    known = {one: git("rev-parse", "--quiet", "--verify", f"{one.ref}^{{commit}}") for one in (main, default)}
    if unknown := next((one for one, commit in known.items() if commit is None), None):
        if main.remote:
            fetch = f"`git fetch {unknown.remote} {unknown.branch}:{unknown.ref}`"
            yield f"this clone does not know {unknown.name}; {fetch}, then {REGISTER} moves champion"
        yield f"there is no branch {main.branch} (register.promote_from in {PARAMS}); make it, then run {REGISTER}"
    if main.remote and (leading := _leading(default)) != main.branch:
        names = f"{main.remote} has another register.promote_from, {leading}, in the {PARAMS} of its default branch"
        yield f"{names}; merge a change of it there first"
    commit = git("rev-parse", "--short=8", "HEAD")
    if git("merge-base", "--is-ancestor", "HEAD", main.ref) is None:
        yield f"commit {commit} is not in {main.name}; {there}"
    yield from _differences(params, f"commit {commit}", there)


def _differences(params: Params, commit: str, there: str) -> Iterator[str]:
    """Yield how the files, the customers and dvc.lock differ from the commit that is checked out."""
    pipeline, source = stages_in(read_text(PIPELINE, YAML_LENGTH), str(PIPELINE)), params.fetch.source
    outs = {path for one in pipeline.values() for kind in ("outs", "metrics", "plots") for path in _paths(one, kind)}
    read = {path for one in pipeline.values() for kind in ("deps", "params") for path in _paths(one, kind)}
    values = params.model_dump(mode="json", by_alias=True)
    given = {filled(path, values) for path in read} - outs
    tracked = next((path for path in (source, f"{source}.dvc") if source in given and _in_head(path)), None)
    if changed := sorted(_differing(given - {source} | ({tracked} if tracked else set()))):
        more = f" and {len(changed) - 1:,} more differ" if changed[1:] else " differs"
        yield f"{changed[0]}{more} from {commit}; commit it, {there}"
    frozen = {name for name, one in pipeline.items() if one.get("frozen")}
    lock = stages_in(read_text(LOCK, YAML_LENGTH), str(LOCK))
    committed = stages_in(git("show", f"HEAD:./{LOCK}") or "{}", f"HEAD:{LOCK}")
    is_settled = tracked and "fetch" not in frozen and not Path(source).is_dir()  # Git determines the customers
    if not is_settled and lock["fetch"]["outs"] != committed.get("fetch", {}).get("outs"):
        yield f"the customers are not those of {LOCK} in {commit}; commit {LOCK}, {there}"
    made = [one for name, one in lock.items() if name not in frozen | {"register"}]
    if stale := next(_stale(made, outs, source, tracked), None):
        yield f"{LOCK} was made with another {stale}; `dvc repro` makes it again, and moves champion"


def _leading(default: Branch) -> str:
    """Return promote_from of the remote's default branch, which no branch but that one can change."""
    text = git("show", f"{default.ref}:./{PARAMS}") or ""
    try:
        return str(read_yaml(text, PARAMS.name)["register"]["promote_from"] or default.branch)
    except (KeyError, TypeError, StageError):
        return default.branch


def _read(path: str) -> Any:
    return read_yaml(read_text(Path(path), YAML_LENGTH), path)


def _paths(stage: Mapping[str, Any], kind: str) -> Iterator[str]:
    """Yield the paths of a stage's deps, outs, metrics or plots, or the files of its params."""
    for entry in stage.get(kind, ()):
        if isinstance(entry, dict):
            yield from entry
        else:
            yield str(PARAMS) if kind == "params" else entry


def _in_head(path: str) -> bool:
    return "://" not in path and bool(git("ls-tree", "--name-only", "HEAD", "--", path))


def _differing(paths: Iterable[str]) -> set[str]:
    """Return which of the paths, and of the modules that a stage can import, differ from HEAD.

    An index of its own keeps what `git update-index --assume-unchanged` hides.
    """
    modules = _modules()
    given = {"dvc.yaml", "stages", "churn", *paths, *modules}
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": f"{folder}/index"}
        git("read-tree", "HEAD", **index)
        options = ("--name-only", "--no-renames", "--no-ext-diff", "--relative", "-z")
        changed = git("-c", "core.fsmonitor=false", "diff", *options, "--", *given, **index)
    committed = git("ls-tree", "-r", "-z", "--name-only", "HEAD", "--", *given)
    if changed is None or committed is None:
        raise StageError("git cannot compare the files with the commit: `git status` says why.")
    known = set(committed.split("\0"))
    folders = {str(parent) for path in known for parent in Path(path).parents}
    return {*filter(None, changed.split("\0"))} | {one for one in {*paths} | modules if one not in known | folders}


def _modules() -> set[str]:
    """Return the files of this repository that a stage can import: of stages, of churn, and of what they import."""
    suffixes, found, todo = tuple(all_suffixes()), set[Path](), {"stages", "churn"}
    while todo:
        names, todo = todo, set()
        files = {file for name in names for file in (*Path(name).rglob("*"), *Path().glob(f"{name}.*"))}
        for file in files - found:
            if file.name.endswith(suffixes) and "__pycache__" not in file.parts:
                found.add(file)
                todo |= {*IMPORT.findall(file.read_text(encoding="utf-8", errors="replace"))}
    return {str(file) for file in found}


def _stale(stages: Iterable[Mapping[str, Any]], outs: set[str], source: str, tracked: str | None) -> Iterator[str]:
    """Yield what dvc.lock does not have as it is here: files that stages read, and their parameters."""
    for stage in stages:
        for dep in stage.get("deps", ()):
            path = dep["path"]
            if path in outs or (path == source and not tracked):
                continue
            if path == source and path != tracked:  # what its .dvc file says of it
                is_same = dep["md5"] in [out.get("md5") for out in _read(f"{path}.dvc")["outs"]]
            else:
                is_same = not Path(path).exists() or hash_of(Path(path)) == dep["md5"]
            if not is_same:
                yield path
        for file, keys in stage.get("params", {}).items():
            if file not in outs:
                values = _read(file)
                yield from (f"{key} in {file}" for key in keys if value_at(values, key) != keys[key])


def settings_of(main: Branch) -> Params:
    """Return params.yaml of the branch that promotes. Raises StageError when this code cannot read it."""
    text = git("show", f"{main.ref}:./{PARAMS}") or ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PARAMS
        path.write_text(text, encoding="utf-8")
        try:
            return load_params(path)
        except StageError as error:
            fault = str(error).replace(str(path), f"{main.name}:{PARAMS}")
            raise StageError(f"{fault} Register from the newest commit of {main.name}.") from error
