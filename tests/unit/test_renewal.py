"""The next holdout: its salt, and whom it takes from the training table."""

import re

from churn.config.params import load_params
from churn.core.dvc_files import hash_of
from churn.core.errors import StageError
from churn.core.files import md5_of
from churn.core.partitions import store, write_manifest
from churn.core.paths import LOCK, PARAMS, TEST, TRAIN
from churn.data.renewal import arguments, main
from churn.data.split import in_holdout
from tests.conftest import make_customers
from tests.frozen import copy_of

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch, contract):
    """A folder with both tables, as the split of params.yaml has them, and a lock that names them."""
    monkeypatch.chdir(tmp_path)
    for name in ("contract.yaml", str(PARAMS)):
        (tmp_path / name).write_text(copy_of(name).read_text())
    customers, split = make_customers(contract, 1_000), load_params().prepare
    holdout = in_holdout(customers["customer_id"], split.salt, split.holdout_share)
    TRAIN.parent.mkdir(parents=True)
    for path, rows in ((TRAIN, ~holdout), (TEST, holdout)):
        customers[rows].to_parquet(path)
    outs = ", ".join(f"{{path: {path}, md5: {md5_of(path)}}}" for path in (TRAIN, TEST))
    LOCK.write_text(f"schema: '2.0'\nstages: {{prepare: {{cmd: x, outs: [{outs}]}}}}\n")
    return tmp_path, customers["customer_id"], holdout


def renew():
    main(arguments().parse_args(["renew"]))


def test_the_next_salt_is_the_one_change_and_whom_main_was_trained_on_is_counted(folder, capsys):
    _, keys, before = folder
    text, lock = PARAMS.read_text(), LOCK.read_text()
    renew()
    changed = [line for line in PARAMS.read_text().splitlines() if line not in text.splitlines()]
    assert changed == ['  salt: "churn-2" # another salt makes another split']
    assert LOCK.read_text() == lock
    after = in_holdout(keys, "churn-2", 0.2)
    printed = capsys.readouterr().out
    assert "prepare.salt in params.yaml is churn-2, and was churn; dvc.lock stays" in printed
    assert (
        f"the new one has {after.sum()} customers: the model of dvc.lock was trained on {(after & ~before).sum()} of"
        f" them, and {(after & before).sum()} were held out before"
    ) in printed
    assert f"compares with main on these {(after & before).sum()} alone" in printed
    assert printed.endswith(
        'holdout: next:\n  dvc repro\n  git commit --all --message "Renew the holdout: churn to churn-2"\n'
        "  python -m report --base origin/main\n"
    )


def test_partitions_are_counted_like_one_table(folder, capsys):
    _, keys, before = folder
    lock = LOCK.read_text()
    for path in (TRAIN, TEST):
        whole, md5 = pq.read_table(path), md5_of(path)
        path.unlink()
        made = []
        for part in (whole[:100], whole[100:]):
            pq.write_table(part, folder[0] / "made")
            made.append(store(folder[0] / "made", path, len(made), len(part), None))
        write_manifest(path, made)
        lock = lock.replace(md5, hash_of(path))
    LOCK.write_text(lock)
    renew()
    after = in_holdout(keys, "churn-2", 0.2)
    assert (
        f"the new one has {after.sum()} customers: the model of dvc.lock was trained on {(after & ~before).sum()} of"
        in (capsys.readouterr().out)
    )


def test_customers_are_counted_once_however_many_rows_they_have(folder, capsys):
    _, keys, _ = folder
    for path in (TRAIN, TEST):
        table = pq.read_table(path)
        pq.write_table(pa.concat_tables([table] * 3), path)
        LOCK.write_text(re.sub(rf"(path: {path}, md5: )\w+", rf"\g<1>{md5_of(path)}", LOCK.read_text()))
    renew()
    after = in_holdout(keys, "churn-2", 0.2)
    assert f"the new one has {after.sum()} customers" in capsys.readouterr().out


def test_the_salt_after_a_renewed_one_is_the_next_and_nobody_picks_it(folder):
    for salt in ("churn-2", "churn-3", "churn-4"):
        renew()
        assert load_params().prepare.salt == salt


@pytest.mark.parametrize("change", [TRAIN.unlink, lambda: TEST.write_bytes(TRAIN.read_bytes())])
def test_tables_that_are_not_those_of_the_lock_leave_the_salt(folder, change):
    change()
    with pytest.raises(StageError, match=r"^data/features/.*\.parquet is not that of dvc\.lock: run `dvc pull` or"):
        renew()
    assert load_params().prepare.salt == "churn"
