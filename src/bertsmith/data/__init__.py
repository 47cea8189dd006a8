"""Data: from text files to masked, packed batches.

corpora ─► preparation ─► shards ─► instances ─► masking ─► packing ─► loader
files      tokens, once   on disk   which text   what is    rows of    batches from
                                    goes with    hidden     a batch    any position
                                    which text

Beside it, for files that have more than text: records (rows of csv, tsv, JSON, Parquet, CoNLL) and columns (which of them
holds what).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bertsmith.data.corpora import Corpus, Document, read_documents
from bertsmith.data.draws import Draw, Draws, Share
from bertsmith.data.example import IGNORE_INDEX, Example
from bertsmith.data.instances import Instances, Plan, Segments, SentencePairs
from bertsmith.data.learning import ExtendedTokenizer, LearnedTokenizer, extend_tokenizer, learn_tokenizer
from bertsmith.data.masking import Choice, Masking, SingleTokens, Spans, WholeWords
from bertsmith.data.prefetch import prefetched
from bertsmith.data.preparation import Prepared, prepare
from bertsmith.data.randomness import KeyedPermutation, generator
from bertsmith.data.shards import Shards, ShardWriter, damaged_shards, read_manifest
from bertsmith.data.statistics import MaskStatistics

if TYPE_CHECKING:
    from bertsmith.data.batch import Batch, Run
    from bertsmith.data.loader import Drawn, Loader, Position
    from bertsmith.data.packing import pack, pad

__all__ = [
    "IGNORE_INDEX",
    "Batch",
    "Choice",
    "Corpus",
    "Document",
    "Draw",
    "Drawn",
    "Draws",
    "Example",
    "ExtendedTokenizer",
    "Instances",
    "KeyedPermutation",
    "LearnedTokenizer",
    "Loader",
    "MaskStatistics",
    "Masking",
    "Plan",
    "Position",
    "Prepared",
    "Run",
    "Segments",
    "SentencePairs",
    "ShardWriter",
    "Shards",
    "Share",
    "SingleTokens",
    "Spans",
    "WholeWords",
    "damaged_shards",
    "extend_tokenizer",
    "generator",
    "learn_tokenizer",
    "pack",
    "pad",
    "prefetched",
    "prepare",
    "read_documents",
    "read_manifest",
]

# These import torch, which preparing text does without: its worker processes start in a tenth of the time.
_WITH_TORCH = {
    "Batch": "batch",
    "Run": "batch",
    "Drawn": "loader",
    "Loader": "loader",
    "Position": "loader",
    "pack": "packing",
    "pad": "packing",
}


def __getattr__(name: str) -> Any:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
