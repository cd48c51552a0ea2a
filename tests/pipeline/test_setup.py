"""`make setup` in a checkout with a lock of one package: by uv, else by pip, by neither where a hash is wrong."""

import hashlib
import shutil
import sys
import sysconfig
import zipfile
from pathlib import Path

from tests.conftest import ROOT, Clone

import pytest

PACKAGES = Path(sysconfig.get_path("purelib"))
WHEEL = {
    "one.py": "",
    "one-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: one\nVersion: 1\n",
    "one-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "one-1.dist-info/RECORD": "one.py,,\n"
    + "".join(f"one-1.dist-info/{name},,\n" for name in ("METADATA", "WHEEL", "RECORD")),
}
FALLBACK = "uv could not install requirements.txt, for the reason above: pip installs it, in a minute or two ..."


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """Return a checkout of the Makefile, and in it an environment with no package but this one's uv."""
    if not (PACKAGES / "uv").exists():
        pytest.skip("the environment was made by pip")
    folder = tmp_path_factory.mktemp("empty") / "it's here"
    folder.mkdir()
    (folder / "Makefile").write_text((ROOT / "Makefile").read_text())
    Clone(folder).ok("make", f"PYTHON={sys.executable}", ".venv/.startup")
    (packages,) = folder.glob(".venv/lib/python*/site-packages")
    for part in (PACKAGES / "uv", *PACKAGES.glob("uv-*.dist-info")):
        (packages / part.name).symlink_to(part)
    (folder / ".venv" / "bin" / "uv").symlink_to(Path(sys.executable).parent / "uv")
    return folder


@pytest.fixture
def checkout(empty, tmp_path):
    """Return a copy with a lock of one wheel, which lies in an index on this disk: nothing is downloaded."""
    wheels = tmp_path / "index" / "one"
    wheels.mkdir(parents=True)
    (wheels / "index.html").write_text('<a href="one-1-py3-none-any.whl">one-1-py3-none-any.whl</a>')
    with zipfile.ZipFile(wheels / "one-1-py3-none-any.whl", "w") as wheel:
        for name, text in WHEEL.items():
            wheel.writestr(name, text)
    digest = hashlib.sha256((wheels / "one-1-py3-none-any.whl").read_bytes()).hexdigest()
    clone = Clone(shutil.copytree(empty, tmp_path / empty.name, symlinks=True))
    (clone.folder / "requirements.txt").write_text(f"one==1 --hash=sha256:{digest}\n")
    (clone.folder / "requirements-uv.txt").touch()
    clone.environment |= {
        "PIP_FIND_LINKS": str(wheels),
        "PIP_NO_INDEX": "1",
        "UV_DEFAULT_INDEX": wheels.parent.as_uri(),
    }
    return clone


def installed(checkout):
    """Return what installed the package, or None."""
    (packages,) = checkout.folder.glob(".venv/lib/python*/site-packages")
    found = packages / "one-1.dist-info" / "INSTALLER"
    return found.read_text().strip() if found.exists() else None


def test_uv_installs_the_lock_once(checkout):
    assert "uv could not" not in checkout.ok("make", "setup")
    assert installed(checkout) == "uv"
    assert checkout.ok("make", "setup") == "make: Nothing to be done for 'setup'.\n"


def test_where_uv_cannot_install_pip_does_and_says_so(checkout):
    printed = checkout.ok("make", "setup", UV_DEFAULT_INDEX="http://127.0.0.1:9/simple", UV_HTTP_RETRIES="0")
    assert printed.splitlines()[-1] == FALLBACK
    assert "Connection refused" in printed
    assert installed(checkout) == "pip"
    assert checkout.ok("make", "setup") == "make: Nothing to be done for 'setup'.\n"


def test_where_uv_is_not_to_be_had_pip_installs_the_lock(checkout):
    (checkout.folder / "requirements-uv.txt").write_text(f"uv==0.0.0 --hash=sha256:{'0' * 64}\n")
    assert checkout.ok("make", "setup").splitlines()[-1] == FALLBACK
    assert installed(checkout) == "pip"


def test_where_python_has_no_pip_that_knows_environments_they_have_their_own(checkout, tmp_path):
    assert not (checkout.folder / ".venv" / "bin" / "pip").exists()
    (checkout.folder / ".venv" / ".python").unlink()
    (tmp_path / "pip.py").write_text('__version__ = "22.0.2"')
    checkout.ok("make", f"PYTHON={sys.executable}", ".venv/.python", PYTHONPATH=str(tmp_path))
    assert checkout.ok("make", "setup").splitlines()[-1] == FALLBACK
    assert (checkout.folder / ".venv" / "bin" / "pip").exists()
    assert installed(checkout) == "pip"


def test_python_keeps_what_it_compiles(checkout):
    show = "show: ; @echo $${PYTHONDONTWRITEBYTECODE-kept}"
    assert checkout.ok("make", f"--eval={show}", "show", PYTHONDONTWRITEBYTECODE="1") == "kept\n"


def test_a_wrong_hash_is_installed_by_neither_and_the_next_make_tries_again(checkout):
    lock = checkout.folder / "requirements.txt"
    right = lock.read_text()
    lock.write_text(f"one==1 --hash=sha256:{'0' * 64}\n")
    assert checkout.run("make", "setup").returncode == 2
    assert installed(checkout) is None
    assert not (checkout.folder / ".venv" / ".runtime").exists()
    lock.write_text(right)
    checkout.ok("make", "setup")
    assert installed(checkout) == "uv"


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("fetch:\n  source: snowflake://me@account/db", "snowflake"),
        ('fetch:\n  source: "snowflake://me@account/db" # a warehouse', "snowflake"),
        ("train:\n  estimator: xgboost.XGBClassifier", "xgboost"),
    ],
)
def test_a_driver_and_an_estimator_are_installed_where_a_setting_needs_them_and_only_there(checkout, setting, name):
    params, lock = checkout.folder / "params.yaml", checkout.folder / f"requirements-{name}.txt"
    (checkout.folder / "requirements.txt").rename(lock)
    (checkout.folder / "requirements.txt").touch()
    for other in ("data/customers.csv", "postgresql://me@host/db"):
        params.write_text(f"fetch:\n  source: {other}\ntrain:\n  estimator: sklearn.dummy.DummyClassifier\n")
        checkout.ok("make", "setup")
        assert installed(checkout) is None
        assert "Installing" not in checkout.ok("make", "--dry-run", "init", f"SOURCE={other}")
    if name == "snowflake":
        first = checkout.ok("make", "--dry-run", "init", "SOURCE=snowflake://me@account/db#customers")
        assert "Installing requirements-snowflake.txt into .venv" in first
    params.write_text(f"{setting}\n")
    assert f"Installing requirements-{name}.txt into .venv" in checkout.ok("make", "setup")
    assert installed(checkout) == "uv"
    assert checkout.ok("make", "setup") == "make: Nothing to be done for 'setup'.\n"
