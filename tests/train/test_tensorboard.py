"""Event files say what the log says: read back with TensorBoard's own reader."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bertsmith.errors import MissingExtra
from bertsmith.train.tensorboard import EventFiles

LINES = [
    {
        "step": 1,
        "train": {"masked_lm": {"loss": 8.5, "accuracy": None, "count": 37}},
        "learning_rate": 0.25,
        "gradient_norm": 2.5,
        "tokens": 70,
        "seconds": 0.5,
        "masking": {"chosen": 0.125},
        "clock": "2026-11-21T10:00:00+00:00",
    },
    {"step": 1, "heldout": {"masked_lm": {"loss": 8.25, "accuracy": 0.5, "count": 7}}},
    {"step": 3, "event": "skipped", "message": "a loss was inf"},
    {"step": 3, "samples": [{"text": "the [MASK]", "position": 2, "answer": "mill", "guesses": [["bread", 0.31]]}]},
]


def write(run: Path, *lines: dict[str, Any]) -> None:
    with (run / "log.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def scalar(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def test_all_that_the_log_says(tmp_path: Path) -> None:
    write(tmp_path, *LINES)
    with EventFiles(tmp_path, tmp_path / "events") as events:
        assert events.update() == 4
    found = read(tmp_path / "events")
    assert {tag: found.Scalars(tag)[0].value for tag in found.Tags()["scalars"]} == {
        "loss/masked_lm/train": 8.5,
        "loss/masked_lm/heldout": 8.25,
        "accuracy/masked_lm/heldout": 0.5,
        "training/learning_rate": 0.25,
        "training/gradient_norm": 2.5,
        "masking/chosen": 0.125,
        "speed/tokens_per_second": 140.0,
    }
    assert found.Scalars("loss/masked_lm/train")[0].wall_time == 1795255200.0
    texts = {tag: found.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in found.Tags()["tensors"]}
    assert texts["events/text_summary"] == "skipped: a loss was inf"
    assert texts["samples/0/text_summary"].endswith("answer: mill; guesses: bread 0.31")


def test_while_the_run_goes_on(tmp_path: Path) -> None:
    write(tmp_path, LINES[0])
    with EventFiles(tmp_path, tmp_path / "events") as events:
        events.update()
        assert scalar(tmp_path / "events", "training/gradient_norm") == [(1, 2.5)], "it can be seen before the end"
        write(tmp_path, {"step": 2, "gradient_norm": 1.5})
        assert events.update() == 1
        write(tmp_path, {"step": 3, "gradient_norm": 0.5})  # read when the file is closed
    assert scalar(tmp_path / "events", "training/gradient_norm") == [(1, 2.5), (2, 1.5), (3, 0.5)]


def test_a_resumed_run_has_every_step_once(tmp_path: Path) -> None:
    """Resumed in the same process, which cuts the log under the reader, and then in another."""
    folder = tmp_path / "events"
    write(tmp_path, {"step": 1, "gradient_norm": 1.0}, {"step": 2, "gradient_norm": 2.0})
    with EventFiles(tmp_path, folder) as events:
        events.update()
        (tmp_path / "new").write_text('{"step": 1, "gradient_norm": 1.0}\n', encoding="utf-8")
        (tmp_path / "new").replace(tmp_path / "log.jsonl")
        events.update()
        write(tmp_path, {"step": 2, "gradient_norm": 3.0})
    assert scalar(folder, "training/gradient_norm") == [(1, 1.0), (2, 3.0)]
    EventFiles(tmp_path, folder).close()
    assert scalar(folder, "training/gradient_norm") == [(1, 1.0), (2, 3.0)]
    assert len(list(folder.iterdir())) == 1


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "events" / "events.out.tfevents.1.host"
    other.parent.mkdir()
    other.write_bytes(b"")
    EventFiles(tmp_path, other.parent).close()
    assert other.exists()


def test_a_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtra, match=r"pip install 'bertsmith\[tensorboard\]'"):
        EventFiles(tmp_path, tmp_path / "events")
    assert not (tmp_path / "events").exists()
