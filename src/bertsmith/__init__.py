"""bertsmith: forge your own BERT.

import bertsmith
model = bertsmith.load("runs/mine")
model.embed(["A cat sat.", "A feline rested."])     # float32 (2, hidden_size)
model.fill("Paris is the [MASK] of France.")        # [Candidate(token, probability), ...]
bertsmith.open_index("my.index").search("old mills")  # [Hit(rank, id, text, fields), ...]
bertsmith.report("runs/mine")                       # a page with curves, speed, masks and what is wrong, if anything

Importing this package is cheap: torch is loaded when something needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertsmith.model import LoadedModel, load
    from bertsmith.retrieval import index_files, open_index
    from bertsmith.runs import report

_HOMES = {
    "LoadedModel": "bertsmith.model",
    "index_files": "bertsmith.retrieval",
    "load": "bertsmith.model",
    "open_index": "bertsmith.retrieval",
    "report": "bertsmith.runs",
}

__all__ = ["LoadedModel", "index_files", "load", "open_index", "report"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'bertsmith' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
