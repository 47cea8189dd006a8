import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.data import Prepared, Shards, prepare
from bertsmith.data.duplicates import THRESHOLD, exact_originals, near_originals, signatures
from bertsmith.errors import MissingExtra
from bertsmith.text import Tokenizer, Vocabulary

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOKENIZER = Tokenizer(Vocabulary((*SPECIAL, ".", *(f"t{i}" for i in range(1000)))))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=30))
def test_exact_originals_are_the_first_of_their_kind(digests: list[tuple[int, int]]) -> None:
    found = exact_originals(np.array(digests, np.uint64).reshape(-1, 2))
    assert found.tolist() == [digests.index(digest) for digest in digests]


def test_near_originals_are_those_that_share_most_shingles() -> None:
    rng = np.random.default_rng(5)
    sets: list[np.ndarray] = []
    expected: list[int] = []
    for group in range(40):
        base = rng.integers(1 << 63, size=400, dtype=np.uint64)
        other = base.copy()
        other[:10] = rng.integers(1 << 63, size=10, dtype=np.uint64)  # 390 of 410: 0.95
        half = base.copy()
        half[:200] = rng.integers(1 << 63, size=200, dtype=np.uint64)  # 200 of 600: 0.33
        sets += [base, half, other]
        expected += [3 * group, 3 * group + 1, 3 * group]
    sets.append(np.empty(0, np.uint64))
    bounds = np.cumsum([0, *map(len, sets)])
    signed = signatures(np.concatenate(sets), bounds)
    assert signed.shape == (121, 128)
    assert near_originals(signed, np.arange(120)).tolist() == [*expected, 120]
    assert near_originals(signed[:0], np.arange(0)).tolist() == []
    # What does not take part is nobody's duplicate.
    assert near_originals(signed, np.arange(1, 120)).tolist()[:4] == [0, 1, 2, 3]


def test_signatures_agree_where_shingles_do() -> None:
    rng = np.random.default_rng(6)
    agreed = []
    for _ in range(100):
        both = rng.integers(1 << 63, size=1000, dtype=np.uint64)
        signed = signatures(np.concatenate([both[:900], both[100:]]), np.array([0, 900, 1800]))  # 800 of 1000
        agreed.append((signed[0] == signed[1]).mean())
    assert np.mean(agreed) == pytest.approx(0.8, abs=0.015)
    assert THRESHOLD == 0.8


def sentence(*numbers: int) -> str:
    return " ".join(f"t{number}" for number in numbers) + "."


FIRST = sentence(*range(100))
NEAR = sentence(*range(99), 500)
TEXTS = [FIRST, sentence(*range(200, 300)), FIRST.replace(" ", "  "), NEAR, "t1 t2.", "t1 t2.", "t1 t3."]


@pytest.mark.parametrize(
    ("mode", "kept", "copies", "near"),
    [("keep", 7, 2, None), ("exact", 5, 2, None), ("near", 4, 2, 1)],
)
def test_what_is_left_out(tmp_path: Path, mode, kept: int, copies: int, near: int | None) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(TEXTS), encoding="utf-8")
    done = prepare(tmp_path / "a.txt", TOKENIZER, tmp_path / "shards", duplicates=mode, heldout=0)
    found = done.statistics["duplicates"]
    assert done.train_documents == done.counts.documents == kept
    assert (found["copies"], found.get("near"), found["left_out"]) == (copies, near, 7 - kept)
    assert found["examples"][0] == {
        "document": f"{tmp_path / 'a.txt'}, line 5",
        "repeats": f"{tmp_path / 'a.txt'}, line 1",
    }
    lengths = np.diff(Shards.load(tmp_path / "shards").sentence_bounds).tolist()
    assert lengths[:2] == [101, 101]
    assert lengths[-1] == 3


def test_any_processes_and_pieces_leave_out_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    bases = [rng.integers(1000, size=200) for _ in range(20)]
    texts = []
    for _ in range(150):
        words = bases[rng.integers(20)].copy()
        words[rng.integers(200)] = rng.integers(1000)
        texts.append(sentence(*words))
    (tmp_path / "a.txt").write_text("\n\n".join(texts), encoding="utf-8")
    made: list[Prepared] = []
    for number, (characters, processes) in enumerate([(1 << 20, 1), (2000, 1), (9000, 2)]):
        monkeypatch.setattr("bertsmith.data.pieces._CHARACTERS", characters)
        out = tmp_path / f"shards{number}"
        made.append(prepare(tmp_path / "a.txt", TOKENIZER, out, duplicates="near", processes=processes))
    assert 20 <= made[0].counts.documents < 60
    assert len({Shards.load(each.path).sha256 for each in made}) == 1


def test_a_missing_library_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("t1", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "rensa", None)
    with pytest.raises(MissingExtra, match=r"rensa. Install it with: pip install 'bertsmith\[corpus\]'"):
        prepare(tmp_path / "a.txt", TOKENIZER, tmp_path / "shards", duplicates="near")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]
