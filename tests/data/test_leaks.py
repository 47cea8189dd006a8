from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertsmith.data import Corpus, Shards, prepare
from bertsmith.data.leaks import HeldoutPassages
from bertsmith.errors import DataError
from bertsmith.text import Tokenizer, Vocabulary

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOKENIZER = Tokenizer(Vocabulary((*SPECIAL, ".", *(f"t{i}" for i in range(3000)))))


def words(*ranges: range) -> str:
    return " ".join(f"t{number}" for numbers in ranges for number in numbers)


def write(path: Path, *documents: str) -> Path:
    path.write_text("\n\n".join(documents), encoding="utf-8")
    return path


@pytest.mark.parametrize("most", [1 << 22, 600])
def test_shares_equal_their_definition(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr("bertsmith.data.leaks._MOST", most)
    rng = np.random.default_rng(9)
    values = rng.integers(1 << 64, size=400, dtype=np.uint64)
    heldout = [rng.choice(values, size=rng.integers(0, 100)) for _ in range(30)]
    training = [rng.choice(values, size=rng.integers(0, 300)) for _ in range(20)]
    held = HeldoutPassages()
    for some in (heldout[:11], heldout[11:]):
        held.add(np.concatenate(some), np.cumsum([0, *map(len, some)]))
    held.freeze()
    assert held.one_in == {1 << 22: 1, 600: 4}[most]
    sets = [{int(v) for v in each if v % held.one_in == 0} for each in heldout]
    frequent = {v for v in values.tolist() if sum(v in each for each in sets) > 20}
    sets = [each - frequent for each in sets]
    best = np.zeros(30)
    for some in (training[:7], training[7:]):
        shares, most_of = held.met_in(np.concatenate(some), np.cumsum([0, *map(len, some)]))
        for document, share, held_out in zip(some, shares, most_of, strict=True):
            expected = [len(each & set(document.tolist())) / len(each) if each else 0.0 for each in sets]
            assert share == pytest.approx(max(expected))
            assert not share or held_out == int(np.argmax(expected))
            best = np.maximum(best, expected)
    assert held.best == pytest.approx(best)
    everything = {int(v) for document in training for v in document}
    assert held.passages == sum(map(len, sets))
    assert held.passages_met == sum(len(each & everything) for each in sets)
    assert held.touched.tolist() == [bool(each & everything) for each in sets]


def leaky(folder: Path) -> tuple[Path, Path]:
    """Training text that repeats three of five held-out documents: one whole, one nearly, one by half."""
    held = write(
        folder / "held.txt",
        words(range(100)),
        words(range(200, 300)),
        words(range(400, 500)),
        words(range(600, 700)),
        "t1 t2 t3",
    )
    training = write(
        folder / "train.txt",
        words(range(1000, 1100)),
        words(range(100)),
        words(range(1200, 1300), range(200, 293), range(1300, 1400)),
        words(range(1400, 1500), range(400, 465), range(1500, 1600)),
        words(range(1600, 1700), range(600, 620)),
        words(range(1800, 1900)),
        "t1 t2 t4",
    )
    return training, held


def test_leaks_into_given_held_out_text_are_counted(tmp_path: Path) -> None:
    training, held = leaky(tmp_path)
    done = prepare(training, TOKENIZER, tmp_path / "shards", heldout_text=held, duplicates="keep")
    found: dict[str, Any] = done.statistics["leaks"]
    assert (done.train_documents, done.heldout_documents) == (7, 5)
    names = ("heldout_documents", "copies", "nearly_copies", "half_or_more", "any_passage")
    assert [found[name] for name in names] == [5, 1, 1, 1, 4]
    assert (found["training_documents"], found["training_documents_left_out"]) == (3, 0)
    # passages of 13 words: 100 words have 88
    assert found["passages"] == 4 * 88
    assert found["passages_in_training"] == pytest.approx((88 + 81 + 53 + 8) / 352, abs=1e-6)
    assert found["examples"][1] == {
        "training": f"{training}, line 5",
        "heldout": f"{held}, line 3",
        "share": pytest.approx(81 / 88, abs=1e-4),
    }
    manifest = Shards.load(tmp_path / "shards").manifest
    assert [source["path"] for source in manifest["heldout_sources"]] == [held.as_posix()]


def test_leaking_training_documents_can_be_left_out(tmp_path: Path) -> None:
    training, held = leaky(tmp_path)
    done = prepare(training, TOKENIZER, tmp_path / "shards", heldout_text=Corpus(held), leaks="drop", duplicates="keep")
    assert (done.train_documents, done.heldout_documents, done.counts.documents) == (4, 5, 9)
    assert done.statistics["leaks"]["training_documents_left_out"] == 3
    clean = write(tmp_path / "clean.txt", *(training.read_text().split("\n\n")[n] for n in (0, 4, 5, 6)))
    prepare(clean, TOKENIZER, tmp_path / "clean", heldout_text=held)
    for file in sorted((tmp_path / "clean").glob("*.bin")):
        assert file.read_bytes() == (tmp_path / "shards" / file.name).read_bytes()


def test_copies_of_given_held_out_text_are_left_out_of_training_as_duplicates(tmp_path: Path) -> None:
    training, held = leaky(tmp_path)
    done = prepare(training, TOKENIZER, tmp_path / "shards", heldout_text=held)
    assert (done.train_documents, done.heldout_documents) == (6, 5)
    assert done.statistics["leaks"]["copies"] == 0


def test_held_out_shares_are_checked_too(tmp_path: Path) -> None:
    documents = [words(range(n, n + 50)) for n in range(0, 1000, 50)]
    documents[3] = words(range(950, 1000), range(2000, 2020))  # holds the last, which is held out
    done = prepare(write(tmp_path / "a.txt", *documents), TOKENIZER, tmp_path / "a", heldout=0.1)
    assert done.heldout_documents == 2
    assert done.statistics["leaks"]["nearly_copies"] == 1
    nothing = prepare(tmp_path / "a.txt", TOKENIZER, tmp_path / "b", heldout=0)
    assert nothing.statistics["leaks"] is None


def test_the_two_parts_of_a_single_document_are_checked(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "\n".join([words(range(40)), words(range(50, 90)), words(range(40))]))
    done = prepare(file, TOKENIZER, tmp_path / "shards", heldout=0.3)
    assert (done.train_documents, done.heldout_documents, done.counts.documents) == (1, 1, 1)
    assert done.statistics["leaks"]["nearly_copies"] == 1


def test_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    held = write(tmp_path / "held.txt", "t1 t2 t3")
    with pytest.raises(DataError, match="every document was held out or left out"):
        prepare(write(tmp_path / "a.txt", "t1  t2 t3"), TOKENIZER, tmp_path / "shards", heldout_text=held)
