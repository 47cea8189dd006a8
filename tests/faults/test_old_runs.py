"""Run folders of every format that there has been load for ever, and go on to the losses that they were to have.

golden/v1 is of bertsmith 0.1, golden/v2 of the version after it; both stand at step 4 of 8, in one text's shards.
`expected.json` has each step's loss, from the run that was not interrupted. They were made without dropout, whose draws no
format holds.
"""

import json
import shutil
from pathlib import Path

import pytest

from bertsmith.errors import CheckpointError
from bertsmith.train import Pretraining, read_log
from bertsmith.train.record import read_record
from bertsmith.train.state import newest_state

GOLDEN = Path(__file__).with_name("golden")


def golden(version: str, to: Path) -> Pretraining:
    """A copy of a golden run that can be gone on with."""
    shutil.copytree(GOLDEN / version, to)
    record = read_record(to)
    assert record is not None
    return Pretraining(
        recipe=record.recipe, data=GOLDEN / "data", out=to, log_every=1, evaluate_every=4, heldout_sequences=8
    )


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_an_old_run_goes_on(version: str, tmp_path: Path) -> None:
    run = golden(version, tmp_path / "run")
    found = newest_state(run.out)
    assert found is not None and found[1].step == found[1].draws == 4
    assert [report.step for report in run.run(resume=True)] == [5, 6, 7, 8]
    losses = {r["step"]: r["train"]["masked_lm"]["loss"] for r in read_log(run.out) if "train" in r}
    expected = dict(json.loads((run.out / "expected.json").read_text(encoding="utf-8")))
    assert losses == pytest.approx(expected, rel=1e-4)


def test_a_run_of_tomorrow_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = golden("v2", tmp_path / "run")
    monkeypatch.setattr("bertsmith.train.state.VERSION", 1)
    with pytest.raises(CheckpointError, match=r"written by a newer bertsmith \(version 2\)\. Upgrade this one\."):
        next(run.run(resume=True))


def test_passes_of_bertsmith_0_1(tmp_path: Path) -> None:
    run = golden("v1", tmp_path / "run")
    written = (run.out / "run.json").read_text(encoding="utf-8").replace('"accumulation": 1', '"accumulation": 2', 1)
    (run.out / "run.json").write_text(written, encoding="utf-8")
    record = read_record(run.out)
    assert record is not None and record.tokens_at_once == 4 * 24 // 2
