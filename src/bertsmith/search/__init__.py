"""The index: texts with their vectors and columns, found by meaning, by words, or by both. Knows no model and no torch.

fingerprint.py   what made the vectors
fields.py        what is kept of each text
places.py        a folder, or a bucket
seal.py          what was acknowledged, and how damage is found
writer.py        putting in and taking out
index.py         finding
ranking.py       several rankings made one
"""

from bertsmith.search.fields import Entry
from bertsmith.search.fingerprint import Fingerprint
from bertsmith.search.index import MODES, Hit, Index, Mode, Recall
from bertsmith.search.places import Place
from bertsmith.search.ranking import reciprocal_rank_fusion
from bertsmith.search.seal import Description, described
from bertsmith.search.writer import APPROXIMATE_FROM, Added, Writer, refusal, writing

__all__ = [
    "APPROXIMATE_FROM",
    "MODES",
    "Added",
    "Description",
    "Entry",
    "Fingerprint",
    "Hit",
    "Index",
    "Mode",
    "Place",
    "Recall",
    "Writer",
    "described",
    "reciprocal_rank_fusion",
    "refusal",
    "writing",
]
