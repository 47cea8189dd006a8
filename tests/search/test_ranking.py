"""Reciprocal rank fusion, by hand."""

from bertsmith.search import reciprocal_rank_fusion


def test_by_hand() -> None:
    # a: 1/61 + 1/63; b: 1/62; c: 1/63 + 1/61; d: 1/62
    assert reciprocal_rank_fusion([["a", "b", "c"], ["c", "d", "a"]]) == ["a", "c", "b", "d"]
    assert reciprocal_rank_fusion([["b", "a"], ["b"]]) == ["b", "a"]
    assert reciprocal_rank_fusion([]) == reciprocal_rank_fusion([[], []]) == []
