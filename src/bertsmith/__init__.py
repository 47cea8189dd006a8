"""bertsmith: forge your own BERT.

import bertsmith
model = bertsmith.load("runs/mine")
model.embed(["A cat sat.", "A feline rested."])     # float32 (2, hidden_size)
model.fill("Paris is the [MASK] of France.")        # [Candidate(token, probability), ...]

Importing this package is cheap: torch is loaded when something needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertsmith.model import LoadedModel, load

_HOMES = {"LoadedModel": "bertsmith.model", "load": "bertsmith.model"}

__all__ = ["LoadedModel", "load"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'bertsmith' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
