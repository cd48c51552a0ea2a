"""`make audit`: what was accepted, with its reason, and what pip-audit found. The service itself is not asked here."""

from ci import audit
from tests.conftest import ROOT

import pytest

FOUND = {
    "name": "diskcache",
    "version": "5.6.3",
    "vulns": [{"id": "PYSEC-2026-1", "aliases": ["CVE-2025-69872"], "fix_versions": [], "description": ""}],
}
FINE = {"name": "duckdb", "version": "2.0.0", "vulns": []}


def test_each_accepted_vulnerability_has_a_reason():
    assert audit.accepted((ROOT / audit.ACCEPTED).read_text(encoding="utf-8"))


def test_comments_and_empty_lines_accept_nothing():
    assert audit.accepted("# why\n\nCVE-1  harmless here\n") == {"CVE-1": "harmless here"}


@pytest.mark.parametrize("line", ["CVE-1", "CVE-1 one space", "CVE-1  "])
def test_an_id_without_a_reason_is_refused(line):
    with pytest.raises(ValueError, match="is not an id, two spaces and a reason"):
        audit.accepted(line)


def test_a_vulnerability_is_accepted_by_any_of_its_names():
    assert not list(audit.faults([FOUND, FINE], {"CVE-2025-69872": "harmless"}))
    assert not list(audit.faults([FOUND, FINE], {"PYSEC-2026-1": "harmless"}))


def test_one_that_nobody_accepted_is_told_with_its_mending():
    assert list(audit.faults([FOUND, FINE], {})) == ["diskcache 5.6.3 has PYSEC-2026-1, mended in no version yet."]


def test_an_exception_that_is_not_needed_any_more_is_to_go():
    assert list(audit.faults([FINE], {"CVE-1": "harmless"})) == [
        "CVE-1 is accepted in .github/accepted-vulnerabilities.txt, but no package has it any more: delete its line."
    ]


def test_a_package_that_could_not_be_looked_up_is_no_good_result():
    skipped = {"name": "duckdb", "skip_reason": "not found"}
    assert list(audit.faults([skipped], {"CVE-1": "harmless"})) == ["duckdb could not be looked up: not found."]


@pytest.fixture
def pip_audit(monkeypatch, tmp_path):
    """Put a stand-in for pip-audit on PATH, which asks a service on the internet."""

    def put(script):
        (tmp_path / "pip-audit").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "pip-audit").chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.chdir(ROOT)
    return put


def test_pip_audit_is_given_each_lock_as_they_are(pip_audit, tmp_path, capsys):
    pip_audit(f"""echo "$@" > {tmp_path}/said; echo '{{"dependencies": []}}'""")
    with pytest.raises(SystemExit) as left:
        audit.main()
    said = (tmp_path / "said").read_text()
    locks = "--requirement requirements.txt --requirement requirements-dev.txt --requirement requirements-uv.txt"
    assert f"{locks} --require-hashes --disable-pip" in said
    assert left.value.code == 1  # since what is accepted was not found
    assert capsys.readouterr().out.endswith("audit: 0 packages, 1 accepted vulnerabilities, 1 faults\n")


def test_a_pip_audit_that_breaks_is_a_fault(pip_audit):
    pip_audit("echo 'the service is down' >&2; exit 1")
    with pytest.raises(SystemExit, match="pip-audit failed: the service is down"):
        audit.main()


def test_the_real_pip_audit_knows_these_options():
    parser = pytest.importorskip("pip_audit._cli")._parser()
    assert parser.parse_args(audit.command()[1:]).require_hashes


@pytest.mark.parametrize(
    "script",
    [
        "echo 'Traceback' >&2; echo 'requests.exceptions.ProxyError: refused' >&2; exit 1",
        """echo '{"dependencies": [{"name": "a", "skip_reason": "x"}, {"name": "b", "skip_reason": "x"}]}'""",
    ],
)
def test_without_an_answer_the_audit_is_one_sentence(pip_audit, script):
    """Fault in CI and the judge: `make audit` runs without a network.

    It exits with 1: `audit: no package could be looked up: …`
    """
    pip_audit(script)
    with pytest.raises(SystemExit) as left:
        audit.main()
    assert str(left.value).startswith("audit: no package could be looked up: ")
    assert "\n" not in str(left.value)
