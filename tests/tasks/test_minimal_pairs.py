import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bertsmith.errors import DataError, UsageError
from bertsmith.tasks import holds_minimal_pairs, read_minimal_pairs, score_minimal_pairs


def write(path: Path, goods: Sequence[str], bad: str = "xxxx", **groups: str) -> None:
    rows = [{"sentence_good": good, "sentence_bad": bad, **groups} for good in goods]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where shorter is likelier: a has 3 of 4 right, one of them a tie's loss; b has all 2; c none of 1."""
    write(tmp_path / "a.jsonl", ["x", "xx", "xxxx", "xxx"], field="syntax", linguistics_term="islands")
    write(tmp_path / "b.jsonl", ["x", "xx"], field="syntax", linguistics_term="binding")
    write(tmp_path / "c.jsonl", ["xxxxx"], field="morphology", linguistics_term="binding")
    return tmp_path


def shorter(texts: Sequence[str]) -> np.ndarray:
    return -np.array([len(text) for text in texts], np.float64)


def test_accuracies_of_files_of_groups_and_of_all(folder: Path) -> None:
    found = score_minimal_pairs(read_minimal_pairs(folder), shorter)
    assert {name: a.accuracy for name, a in found.paradigms.items()} == {"a": 0.75, "b": 1.0, "c": 0.0}
    assert (found.paradigms["a"].pairs, found.paradigms["a"].ties) == (4, 1)
    assert {name: a.accuracy for name, a in found.groups["field"].items()} == {"morphology": 0.0, "syntax": 0.875}
    assert {name: a.accuracy for name, a in found.groups["linguistics_term"].items()} == {
        "binding": 0.5,
        "islands": 0.75,
    }
    assert found.overall.accuracy == pytest.approx(1.75 / 3)
    assert (found.overall.pairs, found.overall.ties) == (7, 1)
    assert json.loads(json.dumps(found.as_dict()))["paradigms"]["c"]["accuracy"] == 0


def test_the_intervals_are_wilsons_and_that_of_a_stratified_mean(tmp_path: Path) -> None:
    for name, right in (("a", 81), ("b", 50)):
        write(tmp_path / f"{name}.jsonl", ["x"] * right + ["xxxxx"] * (100 - right))
    found = score_minimal_pairs(read_minimal_pairs(tmp_path), shorter)
    a = found.paradigms["a"]
    assert (a.low, a.high) == pytest.approx((0.7222, 0.8749), abs=1e-4)  # published table of Wilson's interval
    half = 1.959964 * ((0.81 * 0.19 + 0.25) / 100) ** 0.5 / 2
    assert (found.overall.low, found.overall.high) == pytest.approx((0.655 - half, 0.655 + half))
    assert found.groups == {}


def test_a_sample_is_always_the_same_and_in_order(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [str(i) for i in range(50)])
    (whole,) = read_minimal_pairs(tmp_path / "a.jsonl")
    sample = [int(good) for good, _ in whole.sample(7).pairs]
    assert sample == sorted(sample) and len(set(sample)) == 7 and sample != list(range(7))
    assert whole.sample(7) == whole.sample(7)
    assert whole.sample(50) == whole.sample(90) == whole
    texts: list[str] = []

    def scorer(given: Sequence[str]) -> np.ndarray:
        texts.extend(given)
        return np.zeros(len(given))

    found = score_minimal_pairs([whole], scorer, limit=7)
    assert texts[::2] == [str(i) for i in sample] and found.overall.ties == 7


def test_what_a_file_holds_is_seen(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "text.txt").write_text("sentence_good\n", encoding="utf-8")
    (other / "text.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    assert holds_minimal_pairs(folder) and holds_minimal_pairs(folder / "a.jsonl")
    assert not any(holds_minimal_pairs(path) for path in (other, other / "text.txt", other / "text.jsonl"))


def test_what_is_wrong_in_a_file_is_said_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"sentence_good": "a", "sentence_bad": "b"}\n{"sentence_good": "a"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: there is no 'sentence_bad'"):
        read_minimal_pairs(file)
    file.write_text('{"sentence_good": 3, "sentence_bad": "b"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 1: 'sentence_good' holds 3"):
        read_minimal_pairs(file)
    file.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="no pair"):
        read_minimal_pairs(file)
    write(file, ["x"])
    with pytest.raises(UsageError, match="limit"):
        score_minimal_pairs(read_minimal_pairs(file), shorter, limit=0)
