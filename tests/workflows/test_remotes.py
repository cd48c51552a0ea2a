"""`make remote` tells DVC the addresses of its remotes."""

from pathlib import Path

from ci import remote

import pytest

SETTINGS = "[plots]\n    html_template = page.html\n"


@pytest.fixture
def local(tmp_path, monkeypatch):
    """The file of DVC's settings for this checkout alone; other remotes are in it already."""
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_REMOTE_URL", "DVC_BRANCH_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".dvc").mkdir()
    (file := tmp_path / ".dvc" / "config.local").write_text(f"{SETTINGS}{settings_of(ci='s3://former')}")
    return file


def settings_of(**urls):
    sections = (f"['remote \"{name}\"']\n    url = {url}\n    verify = true\n" for name, url in urls.items())
    return f"[core]\n    remote = ci\n{''.join(sections)}"


def test_without_an_address_a_folder_is_the_remote_and_other_settings_stay(local):
    remote.main(["set"])
    assert local.read_text() == SETTINGS + settings_of(ci=Path.cwd() / ".cache/remote")


@pytest.mark.parametrize("address", ["s3://bucket/churn", "s3://bucket/churn/", "s3://branches"])
def test_a_slash_at_the_end_of_the_remotes_address_leads_a_branch_to_no_other_prefix(local, address, monkeypatch):
    """The branch role may write below branches/ alone, and `churn//branches/7` is not there."""
    monkeypatch.setenv("DVC_REMOTE_URL", address)
    monkeypatch.setenv("DVC_BRANCH_URL", f"{address}/branches/7")
    remote.main(["set"])
    assert local.read_text() == SETTINGS + settings_of(ci=address, branch=f"{address.removesuffix('/')}/branches/7")


def test_an_address_that_dvc_does_not_take_changes_no_setting(local, monkeypatch):
    before = local.read_text()
    monkeypatch.setenv("DVC_REMOTE_URL", "s4://bucket")
    with pytest.raises(remote.RemoteError, match="DVC takes no such address: look at DVC_REMOTE_URL"):
        remote.main(["set"])
    assert local.read_text() == before
