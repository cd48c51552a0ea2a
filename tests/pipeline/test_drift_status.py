"""`python -m churn.drift` in a clone: compared with what a commit was trained on, and an exit status for a monitor."""


def drift(clone, *arguments):
    done = clone.run("python", "-m", "churn.drift", *arguments)
    return done.returncode, done.stdout


def test_a_fresh_snapshot_is_compared_with_the_one_that_main_was_trained_on(clone):
    clone.commit("Train")
    assert drift(clone, "--base", "main")[0] == 0

    clone.replace("source.sql", "MonthlyCharges AS", "2 * CAST(MonthlyCharges AS DOUBLE) AS")
    clone.ok("python", "-m", "stages.fetch")
    status, printed = drift(clone, "--base", "main")
    assert status == 3
    assert "customers: 0 added, 0 removed, 7,043 changed, 0 the same\n" in printed
    assert "drift: the PSI of monthly_charges is " in printed

    clone.ok("dvc", "checkout", "--force")
    assert drift(clone, "--base", "main")[0] == 0, "the snapshot that was trained on is back"


def test_what_cannot_be_compared_is_a_sentence_and_no_drift(clone):
    status, printed = drift(clone, "--base", "nowhere")
    assert (status, printed.count("\n")) == (2, 1)
    assert printed.startswith("drift: the snapshot of nowhere cannot be had: ")
    assert drift(clone, "nowhere.parquet", "--before", "data/raw/customers.parquet") == (
        2,
        "drift: nowhere.parquet does not exist or is no Parquet file.\n",
    )
    assert drift(clone, "--max-psi", "much")[0] == 2
