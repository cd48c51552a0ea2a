"""init and bounds as a person sees them, on a terminal of the system's own, on a copy of the template."""

import json
import os
import pty
import re
import select
import signal
import sys
import termios

from tests.unit.test_init import make_csv

SECONDS = 25  # of silence
ANSWERS = {
    r"Which column names a customer \[customer\]: ": "",
    r"Which column says who churned \[churn\]: ": "",
    r"Which of them is a churner, no or yes \[yes\]: ": "",
    r"Which other columns are personal, or known only after the churn\? \[none\] ": "why_left",
    r"Of which day are the data, as 2026-11-24 \[2026-02-01\]: ": "2026-11-24",
    r"What does it mean that charge is missing in 84 rows\? \[later\] ": "",
}


def on_a_terminal(clone, command, answers):
    """Run a command of the clone on a terminal, type each answer after its question, and return what was shown."""
    child, terminal = pty.fork()
    if child == 0:
        termios.tcsetwinsize(0, (24, 80))
        os.chdir(clone.folder)
        os.execvpe(command[0], command, clone.real | {"TERM": "xterm"})
    shown, waiting = "", list(answers.items())
    while select.select([terminal], [], [], SECONDS)[0]:
        try:
            part = os.read(terminal, 4_096)
        except OSError:  # Linux's end of a terminal
            break
        if not part:
            break
        shown += part.decode(errors="replace")
        if waiting and re.search(waiting[0][0] + r"$", shown.replace("\r", "")):
            os.write(terminal, f"{waiting.pop(0)[1]}\n".encode())
    os.kill(child, signal.SIGHUP)  # where it still waits for an answer
    _, status = os.waitpid(child, 0)
    assert waiting == [], shown
    return os.waitstatus_to_exitcode(status), shown.replace("\r", "")


def test_a_person_adopts_a_table_on_a_terminal_and_the_open_question_stops_validate(clone):
    content = make_csv(
        charge=[1, 5, 2, "", 9], since=["2025-12-01", "2026-02-01", "2025-11-15"], why_left=["price", "move"]
    ).replace("id,", "customer,", 1)
    (clone.folder / "data" / "members.csv").write_text(content)
    command = [sys.executable, "-m", "churn", "init", "data/members.csv", "--splits", "10"]
    status, shown = on_a_terminal(clone, command, ANSWERS)
    assert status == 0, shown
    assert "init: contract.yaml asks what a missing value of charge means: validate fails until it is answered" in shown
    assert "fetch: 0.00 rows" in shown  # a bar, which only a terminal has
    assert re.search(r"bounds: +10%", shown)
    assert shown.splitlines()[-3:] == [
        "  dvc add data/members.csv",
        "  dvc repro",
        '  git add --all && git commit --message "Adopt our customers"',
    ]
    done = clone.run("dvc", "repro", "validate")
    assert done.returncode != 0
    assert "columns.charge.because is still a question: write what a missing value means" in done.stdout
    clone.replace("contract.yaml", '"What does a missing charge mean?"', "Nothing was sold yet.")
    clone.ok("dvc", "repro", "validate")
    printed = clone.ok("python", "-m", "churn", "bounds", "--splits", "10")
    assert re.search(r"bounds: 10 splits, about [\d.]+ minutes \.\.\.", printed)
    assert "bounds: params.yaml has the bounds, each with its reason" in printed
    assert 'as_of: "2026-11-24" # the date' in clone.text("params.yaml")


def test_rows_over_time_that_prepare_drops_are_not_among_the_least_rows_of_the_contract(clone, monkeypatch):
    monkeypatch.setitem(make_csv.__globals__, "ROWS", 3_000)
    given = {"id": lambda row: f"c-{row // 6:04}", "month": lambda row: f"2026-0{row % 6 + 1}-28"}
    given |= {"churn": lambda row: int(row * 37 % 11 < 4), "charge": lambda row: row * 7 % 90}
    (clone.folder / "data" / "months.csv").write_text(make_csv(**given))
    over_time = "--group id --time month --label-window 30 --holdout-days 30 --as-of 2026-04-30"
    roles = f"{over_time} --label churn --churned 1 --splits 10".split()
    clone.ok("python", "-m", "churn", "init", "data/months.csv", *roles)
    clone.ok("dvc", "repro", "validate")
    rows = json.loads(clone.text("metrics/rows.json"))
    seen = rows["train"] + rows["test"]
    assert seen < 1_000
    assert f"min_rows: {seen // 2 // 100 * 100} # of both tables together; {seen:,} were seen" in clone.text(
        "contract.yaml"
    )
