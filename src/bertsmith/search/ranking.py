"""Several rankings of the same texts made one."""

from collections import defaultdict
from collections.abc import Sequence

DEPTH = 60
"""What tames the first ranks: the constant of Cormack, Clarke and Büttcher (SIGIR 2009), who fixed it in a pilot study."""


def reciprocal_rank_fusion(rankings: Sequence[Sequence[str]]) -> list[str]:
    """All ids of the rankings, best first: by the sum of 1 / (60 + rank) over the rankings that have them (Cormack et al.
    2009, "Reciprocal rank fusion outperforms Condorcet"), equal ones in the order of their ids."""
    scores: dict[str, float] = defaultdict(float)
    for ranking in rankings:
        for rank, id in enumerate(ranking, start=1):
            scores[id] += 1 / (DEPTH + rank)
    return sorted(scores, key=lambda id: (-scores[id], id))
