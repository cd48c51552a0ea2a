"""The comment on a pull request: with CML where it is on PATH, with the GitHub CLI, and from folders meant to harm."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from ci import artifact, comment, pending
from tests.workflows.fake_github import AUTHOR, REPOSITORY, TOKEN, FakeGitHub

import pytest

STAND_INS = Path(__file__).parent / "stand_ins" / "bin"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + bytes([0, 0, 6, 0, 0, 0, 6, 0]) + bytes(100)
REPORT = "**Passes the gate**\n\n![main and this branch](comparison.png)\n\n| a | b |\n"
SHA = "5" * 40
WATERMARK = f'![](https://cml.dev/watermark.png#{SHA} "CML watermark model-report")'
RUN = f"https://github.com/{REPOSITORY}/actions/runs/12"
ON = f"\n\n<sub>On commit {SHA[:8]}</sub>"


def footer(server="https://github.com"):
    return f"\n\n<sub>Commit {SHA[:8]}, [the run]({server}/{REPOSITORY}/actions/runs/12), 2026-11-29 02:05 UTC</sub>"


@pytest.fixture
def github(tmp_path, monkeypatch):
    """GitHub as a job on a pull request finds it, with nothing on PATH but the GitHub CLI's stand-in."""
    fake = FakeGitHub()
    fake.heads[7] = SHA
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "gh").symlink_to(STAND_INS / "gh")
    (tools / "python3").symlink_to(sys.executable)
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 7, "head": {"sha": SHA}}}))
    environment = {
        "FAKE_GITHUB_URL": fake.serve(),
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_RUN_ID": "12",
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_SHA": SHA,
        "GITHUB_TOKEN": TOKEN,
        "PATH": str(tools),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name in ("CML_PUBLISH_URL", "GH_TOKEN", "PICTURE_URL", "REPO_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(comment, "now", lambda: datetime(2026, 11, 29, 2, 5, tzinfo=UTC))
    yield fake
    fake.close()


REAL_CML = shutil.which("cml")


@pytest.fixture
def cml(github, tmp_path, monkeypatch):
    """The real CML, which finds GitHub behind a certificate of its own, and a host for pictures."""
    if not REAL_CML:
        pytest.skip("cml is not on PATH: npm install --ignore-scripts @dvcorg/cml@0.20.6")
    key = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    key += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "own.pem"]
    monkeypatch.setenv("PATH", f"{Path(REAL_CML).parent}{os.pathsep}{os.environ['PATH']}{os.pathsep}{os.defpath}")
    subprocess.run(key, cwd=tmp_path, check=True, capture_output=True)
    both = tmp_path / "both.pem"
    both.write_text((tmp_path / "own.pem").read_text() + (tmp_path / "key.pem").read_text())
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(tmp_path / "own.pem"))
    server = github.serve(both)
    monkeypatch.setenv("GITHUB_SERVER_URL", server)
    monkeypatch.setenv("CML_PUBLISH_URL", f"{server}/pictures")
    return github


@pytest.fixture
def stand_in(github, tmp_path):
    """Put a stand-in for CML on PATH: a shell script, to fail in ways in which the real one fails only by chance."""

    def put(script):
        (tmp_path / "tools" / "cml").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "tools" / "cml").chmod(0o755)

    return put


@pytest.fixture
def folder(tmp_path):
    """What the pipeline's run left."""
    made = tmp_path / "report"
    made.mkdir()
    (made / "report.md").write_text(REPORT)
    (made / "comparison.png").write_bytes(PNG)
    (made / "pull_request.txt").write_text("7\n")
    return made


@pytest.fixture
def host(github, monkeypatch):
    """GitHub, and a host for pictures."""
    monkeypatch.setenv("CML_PUBLISH_URL", "https://pictures.example")
    return github


def post(folder, *arguments):
    return comment.main(["--folder", str(folder), *(arguments or ("--pull-request", "7"))])


def bodies(github):
    return [one["body"] for one in github.comments]


def test_without_cml_the_github_cli_posts_and_then_edits_the_same_comment(github, folder, capsys):
    assert post(folder) == 0
    assert bodies(github)[0].startswith("**Passes the gate**\n")
    assert bodies(github)[0].endswith(f"\n\n{WATERMARK}")
    (folder / "report.md").write_text("**Blocked**\n")
    assert post(folder) == 0
    assert bodies(github) == [f"**Blocked**{ON}{footer()}\n\n{WATERMARK}"]
    assert "not CML: `cml comment` cannot be run (No such file or directory)." in capsys.readouterr().out


def test_cml_posts_and_then_edits_the_same_comment(cml, folder, capsys):
    assert post(folder) == 0
    (folder / "report.md").write_text("**Blocked**\n")
    assert post(folder) == 0
    assert bodies(cml) == [f"**Blocked**{ON}{footer(os.environ['GITHUB_SERVER_URL'])}\n\n{WATERMARK}"]
    assert [line[:9] for line in capsys.readouterr().out.splitlines()] == ["CML wrote"] * 2


@pytest.mark.parametrize("way", ["cml", "github"])
def test_the_report_on_a_newer_commit_takes_the_place_of_the_notice_that_it_is_being_checked(way, folder, request):
    fake = request.getfixturevalue(way)
    assert post(folder) == 0
    run = {"html_url": RUN.replace("/12", "/13"), "head_sha": "6" * 40}
    fake.comments[0]["body"] = pending.with_notice(bodies(fake)[0], run, ended=False)
    assert bodies(fake)[0].startswith("> [!NOTE]\n> ⏳ `66666666` is being checked")
    assert post(folder) == 0
    assert len(fake.comments) == 1
    assert bodies(fake)[0].startswith("**Passes the gate**")


def test_cml_and_the_github_cli_edit_each_others_comment(cml, folder, monkeypatch, capsys):
    both, no_cml = os.environ["PATH"], str(folder.parent / "tools")
    for path in (both, no_cml, both):
        monkeypatch.setenv("PATH", path)
        assert post(folder) == 0
    assert len(cml.comments) == 1
    assert [line[:14] for line in capsys.readouterr().out.splitlines() if "wrote" in line] == [
        "CML wrote http",
        "The GitHub CLI",
        "CML wrote http",
    ]


def test_the_picture_is_published_and_shown_where_the_report_has_it(cml, folder):
    assert post(folder) == 0
    assert cml.pictures == [("image/png", PNG)]
    shown = "\n\n![main and this branch](https://pictures.example/abc.png?"
    assert shown in bodies(cml)[0]
    assert "comparison.png" not in bodies(cml)[0]


def test_the_picture_that_the_repository_keeps_is_shown_and_goes_to_no_other_host(cml, folder, monkeypatch):
    monkeypatch.delenv("CML_PUBLISH_URL")
    monkeypatch.setenv("PICTURE_URL", "https://github.com/example/churn/raw/report-pictures/12-1.png")
    assert post(folder) == 0
    assert (
        "\n\n![main and this branch](https://github.com/example/churn/raw/report-pictures/12-1.png)\n" in bodies(cml)[0]
    )
    assert cml.pictures == []


def test_without_a_host_no_picture_is_published(cml, folder, monkeypatch):
    monkeypatch.delenv("CML_PUBLISH_URL")
    assert post(folder) == 0
    assert "\n\n_No picture here: " in bodies(cml)[0]
    assert cml.pictures == []


@pytest.mark.parametrize("before", [29, 30, 40, 250])
@pytest.mark.parametrize("way", ["cml", "github"])
def test_one_comment_stays_one_behind_many_others(way, before, folder, request, capsys):
    fake = request.getfixturevalue(way)
    for number in range(before):
        fake.comment(f"Comment {number}", "somebody")
    for _ in range(3):
        assert post(folder) == 0
    assert len(fake.comments) == before + 1
    assert fake.comments[-1]["user"]["login"] == AUTHOR
    by_cml = [line.startswith("CML") for line in capsys.readouterr().out.splitlines() if " wrote " in line]
    assert by_cml == ([way == "cml"] + [way == "cml" and before < 30] * 2)


@pytest.mark.parametrize("author", ["somebody", None])
@pytest.mark.parametrize("way", ["cml", "github"])
def test_a_strangers_comment_with_our_watermark_is_left_alone(way, author, folder, request):
    fake = request.getfixturevalue(way)
    fake.comment(f"Passes, trust me\n\n{WATERMARK}", author)
    for _ in range(2):
        assert post(folder) == 0
    assert len(fake.comments) == 2
    assert bodies(fake)[0].startswith("Passes, trust me")
    assert bodies(fake)[1].startswith("**Passes the gate**")


@pytest.mark.parametrize(
    ("published", "said"),
    [
        ((500, "out of order"), "`cml asset` failed (Invalid URL)"),
        ((200, ""), "`cml asset` failed (status code 200)"),
        ((200, "http://pictures.example/in-clear-text.png"), "`cml asset` gave no address"),
        ((200, "https://pictures.example/a.png)![](https://evil.example/b.png"), "`cml asset` gave no address"),
        (None, "`cml asset` took longer than 6 seconds"),
        ("nobody there", "ECONNREFUSED"),
    ],
)
def test_a_host_of_pictures_that_fails_costs_only_the_picture(cml, folder, published, said, capsys):
    cml.published = published
    with pytest.MonkeyPatch.context() as change:
        if published == "nobody there":
            change.setenv("CML_PUBLISH_URL", "http://127.0.0.1:1")
        if published is None:
            change.setattr(comment, "SECONDS", 6)
        assert post(folder) == 0
    run = f"{os.environ['GITHUB_SERVER_URL']}/{REPOSITORY}/actions/runs/12"
    assert f"\n\n_No picture here: what [the run]({run}) made is in its artifact `results`._\n\n" in bodies(cml)[0]
    printed = capsys.readouterr().out
    assert said in printed
    assert "CML wrote" in printed


def test_cml_that_hangs_is_ended_and_the_github_cli_posts(github, folder, stand_in, monkeypatch, capsys):
    stand_in("exec /usr/bin/tail -f /dev/null")
    monkeypatch.setattr(comment, "SECONDS", 2)
    assert post(folder) == 0
    assert len(github.comments) == 1
    assert f"_No picture here: what [the run]({RUN}) made" in bodies(github)[0]
    assert "`cml comment` took longer than 2 seconds" in capsys.readouterr().out


def test_cml_that_posts_and_then_fails_does_not_lead_to_a_second_comment(github, folder, stand_in):
    body = folder.parent / "of_cml.json"
    body.write_text(json.dumps({"body": f"Half of it\n\n{WATERMARK}"}))
    stand_in(f'[ "$1" = comment ] && gh api repos/{REPOSITORY}/issues/7/comments --input {body}\nexit 1')
    assert post(folder) == 0
    assert len(github.comments) == 1
    assert bodies(github)[0].startswith("**Passes the gate**")


def test_where_cml_would_not_find_its_comment_behind_forty_others_it_is_not_asked(github, folder, stand_in, capsys):
    for number in range(40):
        github.comment(f"Comment {number}", "somebody")
    body = folder.parent / "of_cml.json"
    body.write_text(json.dumps({"body": f"Its own\n\n{WATERMARK}"}))
    posting = (
        f"gh api repos/{REPOSITORY}/issues/7/comments --input {body} > {folder}/answer && echo https://cml.example"
    )
    stand_in(f'[ "$1" = comment ] && {posting}')  # which adds one more each time
    for _ in range(3):
        assert post(folder) == 0
    assert len(github.comments) == 41
    assert bodies(github)[-1].startswith("**Passes the gate**")
    wrote = [line.partition(" wrote ")[0] for line in capsys.readouterr().out.splitlines() if " wrote " in line]
    assert wrote == ["CML", "The GitHub CLI", "The GitHub CLI"]


def test_cml_posts_where_there_is_no_github_cli(cml, folder):
    (folder.parent / "tools" / "gh").unlink()
    if shutil.which("gh"):
        pytest.skip("the GitHub CLI is beside CML on PATH")
    assert post(folder) == 0
    assert len(cml.comments) == 1


def test_when_nobody_can_post_one_sentence_says_so_also_to_the_alert(github, folder, monkeypatch, capsys):
    monkeypatch.setenv("GITHUB_TOKEN", "expired")
    monkeypatch.setenv("GITHUB_OUTPUT", str(folder / "output"))
    assert post(folder) == 1
    said = "No comment was posted: `gh api` failed (HTTP 401).\n"
    assert capsys.readouterr().err == said
    assert (folder / "output").read_text() == f"fault={said}"


@pytest.mark.parametrize("event", ["pull_request", "workflow_dispatch"])
def test_a_run_about_another_commit_than_the_newest_posts_nothing(github, folder, monkeypatch, capsys, event):
    """Fault in CI and the judge: somebody re-runs a pull request's older run, or dispatches another branch for it.

    The comment keeps the verdict on the newest commit: `Pull request 7 is at 66666666. This run is about 55555555, so
    it posts nothing.`
    """
    monkeypatch.setenv("GITHUB_EVENT_NAME", event)
    assert post(folder) == 0
    verdict = bodies(github)
    github.heads[7] = "6" * 40
    (folder / "report.md").write_text("**Blocked**\n")
    assert post(folder) == 0
    assert bodies(github) == verdict
    said = "::notice::Pull request 7 is at 66666666. This run is about 55555555, so it posts nothing.\n"
    assert capsys.readouterr().out.endswith(said)


def test_where_github_does_not_name_the_newest_commit_the_run_comments(github, folder):
    del github.heads[7]
    assert post(folder) == 0
    assert len(github.comments) == 1


def test_a_fork_is_commented_on_under_the_number_that_its_run_wrote_down(github, folder, monkeypatch):
    github.heads[7] = "7" * 40
    event = folder.parent / "event.json"
    run = {"html_url": "https://github.com/example/churn/actions/runs/11", "head_sha": "7" * 40}
    event.write_text(json.dumps({"workflow_run": run}))
    monkeypatch.setenv("GITHUB_EVENT_NAME", "workflow_run")
    (folder / "report.md").write_text(f"{REPORT}[Log in](https://evil.example)\n")
    assert post(folder, "--expect-head", "7" * 40) == 0
    assert bodies(github)[0].startswith("> [!WARNING]\n> **Unverified:** ")
    assert "](https://evil.example" not in bodies(github)[0]
    assert "\n\n<sub>On commit 77777777</sub>\n\n" in bodies(github)[0]
    assert "[the run](https://github.com/example/churn/actions/runs/11)" in bodies(github)[0]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("7", f"the head of pull request 7 is not {SHA}, which the report is about"),
        ("8", "`gh api` failed (HTTP 404)"),
        ("7/../../other", "pull_request.txt holds no number"),
        ("\u0667", "pull_request.txt holds no number"),
        ("0", "pull_request.txt holds no number"),
        ("7" * 21, "pull_request.txt has more than 20 bytes"),
        (None, "pull_request.txt is missing or no regular file"),
    ],
)
def test_a_fork_cannot_choose_where_its_report_is_shown(github, folder, written, said, capsys):
    (folder / "pull_request.txt").unlink()
    if written is not None:
        (folder / "pull_request.txt").write_text(written)
    github.heads[7] = "7" * 40
    assert post(folder, "--expect-head", SHA) == 1
    assert capsys.readouterr().err == f"No comment was posted: {said}.\n"
    assert github.comments == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "is missing or no regular file"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), "is missing or no regular file"),
        (lambda path: (path.unlink(), path.mkdir()), "is missing or no regular file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "is missing or no regular file"),
        (lambda path: path.write_bytes(b"x" * 1_000_001), "has more than 1,000,000 bytes"),
        (lambda path: path.write_bytes("Müller".encode("latin-1")), "is not UTF-8"),
    ],
)
def test_a_report_that_is_none_is_not_shown_and_the_comment_says_why(github, folder, spoil, said):
    github.comment(f"**Passes the gate**, yesterday\n\n{WATERMARK}")
    spoil(folder / "report.md")
    assert post(folder) == 0
    shown = f"There is no report of [this run]({RUN}): report.md {said}."
    assert bodies(github) == [f"{shown}{ON}{footer()}\n\n{WATERMARK}"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "is missing or no regular file"),
        (lambda path: (path.unlink(), path.symlink_to(__file__)), "is missing or no regular file"),
        (lambda path: path.write_bytes(b"<svg onload=alert(1)>"), "is no PNG"),
        (lambda path: path.write_bytes(PNG + bytes(500_000)), "has more than 500,000 bytes"),
        (lambda path: path.write_bytes(PNG[:16] + b"\xff" * 8), "has 4,294,967,295 x 4,294,967,295 pixels, more than"),
    ],
)
def test_a_picture_that_is_none_is_not_published(host, folder, spoil, said, capsys):
    spoil(folder / "comparison.png")
    assert post(folder) == 0
    assert f"The picture was not published: comparison.png {said}" in capsys.readouterr().out
    assert "_No picture here" in bodies(host)[0]


@pytest.mark.parametrize("way", ["cml", "github"])
@pytest.mark.parametrize("text", ["**Blocked**\n" + "a line of text\n" * 5_000, "@a" * 35_000], ids=["lines", "one"])
def test_a_report_that_is_too_long_is_cut_at_a_line_and_says_so(way, text, folder, request):
    fake = request.getfixturevalue(way)
    (folder / "report.md").write_text(text)
    assert post(folder) == 0
    body = bodies(fake)[0]
    said, on, *kept, origin, watermark = body.split("\n\n")
    assert said.startswith("_Cut after 64,500 characters: [the run](")
    assert f"\n\n{on}" == ON
    assert origin == footer(os.environ["GITHUB_SERVER_URL"]).strip()
    assert 64_000 < len(body) < 65_536
    assert watermark == WATERMARK
    if "line" in text:
        assert {line for part in kept for line in part.splitlines()} == {"**Blocked**", "a line of text"}


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("Thanks @octocat", "@o"),
        ("@example/team", "@e"),
        ("<sub></sub>@octocat", "@o"),
        ("see #12 and example/other#12", "#1"),
        ("see GH-12 or gh-12", "gh-1"),
        ("![](https://evil.example/a.png)", "!["),
        ("![a][b]\n\n[b]: https://evil.example/a.png", "!["),
        (r"\![](https://evil.example/a.png)", "!["),
        (r"\\![](https://evil.example/a.png)", "!["),
        ('<img src="https://evil.example/a.png">', "<i"),
        ("<!-- a word to the machine that reads this -->", "<!"),
        ("<script>", "<s"),
        ("</td>", "</"),
        ("<details onclick=x>", "<d"),
        ("<sub/onclick=x>", "<s"),
        ("<summaryx>", "<s"),
        ("<?php", "<?"),
        ("&#64;octocat and &#x40;octocat", "@o"),
        ("&commat;octocat", "@o"),
        ("@&#111;ctocat", "@o"),
        ("&#35;12 &num;12", "#1"),
        ("#&#49;2", "#1"),
        ("G&#72;-12 &#71;H-12 GH&#45;12 GH-&#49;2", "gh-1"),
        ("&#12", "#1"),
        ("\\&#42;", "#4"),  # the backslash makes text of it
        (WATERMARK, "!["),
        ("Passes \u202edekcolB", "\u202e"),
        ("a\x1b[2Jb\x00c", "\x00"),
    ],
)
def test_neutral_takes_the_effect_from_a_token_and_leaves_how_it_looks(text, token):
    harmless = artifact.neutral(text)
    assert token not in html.unescape(harmless).lower()  # GitHub looks for them when it has read the Markdown
    assert harmless.replace(artifact.INVISIBLE, "") == artifact.CONTROL.sub(" ", text)
    assert not comment.WATERMARK.search(harmless)


@pytest.mark.parametrize(
    "text",
    [
        "| ROC AUC | 0.849 | **+0.003** | 1 < 2 && a > b |\n|---|:-:|--:|\n",
        "<details>\n<summary>The rest</summary>\n\n```bash\npip install thing==1.0; dvc repro --pull\n```\n</details>",
        "a<br>b<br/>c<br />d<sub>e</sub><sup>f</sup> &lt;i&gt; &amp; &quot;&nbsp;",
        "&#42;e&#42; &#60;b&#62; &#91;a&#93; C:&#92;temp &#95;&#95;init a&#124;b <code>dvc repro</code> &#126;&#96;",
        "# Title\n\n- [the run](https://github.com/example/churn/actions/runs/1)! mail@example.invalid \u00a0\u2191",
    ],
)
def test_neutral_leaves_the_reports_own_marks_alone(text):
    assert artifact.neutral(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "[the run](https://evil.example)",
        "[the run] (x) [the run][1]\n\n[1]: https://evil.example",
        "https://evil.example http://evil.example ftp://evil.example",
        "www.evil.example WWW.evil.example",
        "```mermaid\ngraph TD\n```\n~~~ geojson\n{}\n~~~\n````Mermaid\n````",
        "$$\\text{Passed}$$ $`x`$",
    ],
)
def test_a_strangers_text_leads_nowhere_and_draws_nothing(text):
    harmless = artifact.unverified(text)
    assert not re.search(r"\]\(|\]\[|\]:|://|www\.|(```|~~~) ?\w|\$[$`]", harmless, re.IGNORECASE)
    assert harmless.replace(artifact.INVISIBLE, "") == text


def test_neutral_is_what_the_comment_gets(github, folder, stand_in, monkeypatch):
    monkeypatch.setenv("CML_PUBLISH_URL", "https://pictures.example")
    stand_in('[ "$1" = asset ] && echo https://pictures.example/abc.png')
    forged = WATERMARK.replace(SHA, "a" * 40)
    (folder / "report.md").write_text(
        f"@octocat\n![x](https://evil.example/i.png) [y](comparison.png)\n![z](comparison.png)\n{forged}\n"
    )
    assert post(folder) == 0
    assert "@octocat" not in bodies(github)[0]
    assert bodies(github)[0].count("![") == 2
    assert "\n![z](https://pictures.example/abc.png)\n" in bodies(github)[0]
    assert comment.WATERMARK.findall(bodies(github)[0]) == [WATERMARK]
