"""What is put in is found; what is taken out is not; what is wrong is said."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertsmith.errors import DataError, MissingExtra, UsageError
from bertsmith.search import Added, Description, Entry, Index, writing

SIZE = 5
Make = Callable[..., Entry]
Vectors = Callable[..., np.ndarray]


@pytest.mark.parametrize("optimized", [False, True])
def test_exact_search_is_brute_force(
    mill: Path,
    description: Description,
    by_hand: Callable[[np.ndarray, int], list[str]],
    vectors: Vectors,
    *,
    optimized: bool,
) -> None:
    if optimized:
        with writing(mill, description) as writer:
            writer.optimize(approximate_from=20)
    index = Index(mill)
    assert index.is_approximate == optimized
    assert len(index) == 37
    for number in range(100, 120):
        query = vectors(number)[0]
        hits = index.search(query, k=7, exact=True)
        assert [hit.id for hit in hits] == by_hand(query, 7)
        assert [hit.rank for hit in hits] == list(range(1, 8))
    assert len(index.search(vectors(100)[0], k=99)) == 37
    recall = index.recall(7, queries=9)
    assert recall.queries == 9 and recall.approximate == optimized
    assert recall.share == 1 if not optimized else recall.share > 0.8


def test_a_hit_is_the_text_as_it_was_given(mill: Path, vectors: Vectors) -> None:
    (hit,) = Index(mill).search(vectors(3)[0], k=1)
    assert (hit.rank, hit.id, hit.text) == (1, "t'003", "The mill number3 stood by rivers.")
    assert hit.fields == {"year": 1903, "weight of it": 0.75, "kind": "odd'"}


def test_words_conditions_and_both(mill: Path, vectors: Vectors) -> None:
    index = Index(mill)
    assert [hit.id for hit in index.search(text="number31", mode="text")] == ["t'031"]
    stemmed = index.search(text="river", mode="text", k=3)
    assert [hit.id for hit in stemmed] == ["t'000", "t'001", "t'002"], "equally good ones come by their ids"
    some = index.search(vectors(3)[0], where="year >= 1910 AND kind = 'odd''' AND `weight of it` < 4", k=37)
    assert sorted(hit.fields["year"] for hit in some) == [1911, 1913, 1915]
    assert index.search(vectors(3)[0], where="year > 2000") == []
    both = index.search(vectors(3)[0], "number31", mode="hybrid", k=37)
    assert [hit.id for hit in both[:2]] == ["t'003", "t'031"] or [hit.id for hit in both[:2]] == ["t'031", "t'003"]
    assert len(both) == 37
    assert {id for id, _ in index.texts("year < 1903")} == {"t'000", "t'001", "t'002"}
    assert [hit.id for hit in index.get(["t'009", "nobody", "t'001"])] == ["t'009", "t'001"]


def test_same_ids_are_replaced_and_the_last_of_several_counts(
    mill: Path, description: Description, entry: Make, vectors: Vectors
) -> None:
    changed = [entry(3, "once"), entry(50), entry(3, "twice")]
    with writing(mill, description) as writer:
        assert writer.add(changed, vectors(60, 50, 61)) == Added(new=1, updated=2)
    index = Index(mill)
    assert len(index) == 38
    (hit,) = index.search(vectors(61)[0], k=1)
    assert (hit.id, hit.text) == ("t'003", "twice")
    assert index.search(text="once", mode="text") == []
    assert "t'003" not in [hit.id for hit in index.search(text="number3", mode="text")]


@pytest.mark.parametrize("optimized", [False, True])
def test_what_is_deleted_is_not_found(
    mill: Path, description: Description, vectors: Vectors, *, optimized: bool
) -> None:
    before = Index(mill)
    with writing(mill, description) as writer:
        if optimized:
            writer.optimize(approximate_from=20)
        assert writer.delete(["t'003", "nobody", "x' OR true OR '"]) == 1
        if optimized:
            writer.optimize(approximate_from=20)
    index = Index(mill)
    assert len(index) == 36
    assert index.get(["t'003"]) == []
    assert "t'003" not in [hit.id for hit in index.search(vectors(3)[0], "number3", mode="hybrid", k=99)]
    assert len(before) == 37 and before.search(vectors(3)[0], k=1)[0].id == "t'003", "readers see a whole version"


def test_an_index_that_was_emptied(mill: Path, description: Description, entry: Make, vectors: Vectors) -> None:
    with writing(mill, description) as writer:
        assert writer.delete([entry(n).id for n in range(37)]) == 37
        writer.optimize()
    index = Index(mill)
    assert index.search(vectors(1)[0], "mill", mode="hybrid") == []
    assert index.recall().queries == 0
    with writing(mill, description) as writer:
        writer.add([entry(5)], vectors(5))
    assert [hit.id for hit in Index(mill).search(vectors(1)[0])] == ["t'005"]


def test_another_model_is_refused_with_both_fingerprints(mill: Path, description: Description) -> None:
    changes: tuple[dict[str, Any], ...] = (
        {"weights": "c" * 64},
        {"tokenizer": "c" * 64},
        {"pooling": "cls"},
        {"normalize": False},
    )
    for change in changes:
        made = replace(description.fingerprint, **change)
        other = replace(description, fingerprint=made, model="runs/other")
        with pytest.raises(UsageError) as caught, writing(mill, other):
            pass
        said = str(caught.value)
        assert f"runs/mill ({description.fingerprint})" in said and f"runs/other ({made})" in said
    assert len(Index(mill)) == 37


def test_vectors_that_cannot_be_compared(mill: Path, description: Description, entry: Make, vectors: Vectors) -> None:
    with writing(mill, description) as writer:
        for bad, message in ((np.nan, "not finite"), (np.inf, "not finite"), (0.0, "is zero")):
            two = vectors(50, 51)
            two[1] = bad
            with pytest.raises(DataError, match=f'vector of text "t\'051" .*{message}'):
                writer.add([entry(50), entry(51)], two)
        with pytest.raises(DataError, match=r"need vectors \(1, 5\), not \(1, 4\)"):
            writer.add([entry(50)], vectors(50)[:, :4])
        assert len(Index(mill)) == 37, "all or none"
        writer.add([entry(50), entry(51)], vectors(50, 51) * [[1e300], [1e-300]])
    index = Index(mill)
    assert index.search(vectors(50)[0] * 1e-200, k=1)[0].id == "t'050"
    assert index.search(vectors(51)[0] * 1e200, k=1)[0].id == "t'051"
    with pytest.raises(DataError, match="the query is zero"):
        index.search(np.zeros(SIZE))
    with pytest.raises(DataError, match=r"have 5 numbers, and the query's shape is \(4,\)"):
        index.search(np.ones(4))


def test_equal_vectors_come_by_their_ids(
    tmp_path: Path, description: Description, entry: Make, vectors: Vectors
) -> None:
    numbers = np.random.default_rng(0).permutation(60).tolist()
    with writing(tmp_path / "index", description) as writer:
        writer.add([entry(n) for n in numbers], np.tile(vectors(7), (60, 1)))
        writer.add([entry(99)], vectors(8))
    hits = Index(tmp_path / "index").search(vectors(7)[0], k=40)
    assert [hit.id for hit in hits] == sorted(hit.id for hit in hits)


def test_searches_that_cannot_be(mill: Path, tmp_path: Path, vectors: Vectors) -> None:
    index, query = Index(mill), vectors(1)[0]
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"where": "yaer > 3"}, r"'yaer > 3' cannot be understood .*year \(int64\), weight of it \(float64\)"),
        ({"where": "year >"}, "cannot be understood"),
        ({"k": 0}, "1 or more"),
        ({"mode": "vectr"}, "Did you mean 'vector'"),
        ({"mode": "hybrid"}, "needs a vector and a text"),
    )
    for wrong, message in cases:
        with pytest.raises(UsageError, match=message):
            index.search(query, **wrong)
    with pytest.raises(UsageError, match="needs a text"):
        index.search(query, mode="text")
    with pytest.raises(UsageError, match="cannot be understood"):
        list(index.texts("nothing = 1"))
    with pytest.raises(UsageError, match="there is no index here"):
        Index(tmp_path / "nowhere")


@pytest.mark.parametrize("query", ["", "the", "AND (", '"mill', "a:b +c -d ~1", "\x00", "x" * 9999, "mill " * 999])
def test_any_query_in_words_is_only_words(mill: Path, query: str) -> None:
    assert len(Index(mill).search(text=query, mode="text", k=3)) == (3 if "mill" in query else 0)


def test_the_extra_is_asked_for(mill: Path, description: Description, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(MissingExtra, match=r"pip install 'bertsmith\[search\]'"):
        Index(mill)
    with pytest.raises(MissingExtra), writing(mill, description):
        pass


def test_a_language_without_a_stemmer(tmp_path: Path, description: Description, entry: Make, vectors: Vectors) -> None:
    with writing(tmp_path / "index", replace(description, language=None)) as writer:
        writer.add([entry(1, "the rivers"), entry(2, "水車小屋は川のそばにあった。")], vectors(1, 2))
    index = Index(tmp_path / "index")
    assert [len(index.search(text=text, mode="text")) for text in ("the", "river", "rivers", "川")] == [1, 0, 1, 1]


def test_entries_that_do_not_fit(mill: Path, description: Description, entry: Make, vectors: Vectors) -> None:
    with writing(mill, description) as writer:
        for wrong, message in (
            (Entry("", "no id", place="a.csv, line 3"), "a.csv, line 3: the id is empty"),
            (Entry("x", "a", {"yeer": 3}), "text 'x': there is a column 'yeer', which the index does not have"),
            (Entry("x", "a", {"year": "soon"}), "'soon', and this index keeps whole numbers there"),
            (Entry("x", "\ud800"), "not Unicode"),
        ):
            with pytest.raises(DataError, match=message):
                writer.add([entry(50), wrong], vectors(50, 51))
        assert writer.add([], np.zeros((0, SIZE))) == Added()
        assert writer.add([Entry("x", "a", {"year": None})], vectors(1)) == Added(new=1)
    assert len(Index(mill)) == 38
