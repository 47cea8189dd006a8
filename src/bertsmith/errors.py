"""Every error that bertsmith raises on purpose.

    BertsmithError            exit code 1: something outside the program is not as it must be
    ├── DataError             a text or label file cannot be used (path, line, what to do)
    ├── VocabularyError       a vocabulary cannot be learned, read or matched
    ├── CheckpointError       a model, run, shard or index folder is missing, incomplete, damaged or foreign
    ├── TrainingError         a run cannot go on (a loss that is not finite, nothing to train on)
    ├── MissingExtra          an optional dependency is not installed
    └── UsageError            exit code 2: the caller asked for something that cannot be asked for
        └── ConfigError       a configuration key, type or value is wrong (names the dotted path)

A message says what is wrong, where, what is allowed and what to do. The command line prints it without a traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class BertsmithError(Exception):
    """An expected failure: its message is meant for the person at the keyboard."""

    exit_code = 1


class DataError(BertsmithError):
    """A text or label file cannot be used."""


class VocabularyError(BertsmithError):
    """A vocabulary cannot be learned, read or matched with a model."""


class CheckpointError(BertsmithError):
    """A model, run, shard or index folder is missing, incomplete, damaged or of an unknown kind."""


class TrainingError(BertsmithError):
    """A training run cannot go on."""


class MissingExtra(BertsmithError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"This needs the package {package}. Install it with: pip install 'bertsmith[{extra}]'")


class UsageError(BertsmithError):
    """The caller asked for something that cannot be asked for."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key, type or value is wrong."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """End of a message about an unknown name: a suggestion if one is near, and all that is allowed."""
    choices = sorted(allowed)
    near = get_close_matches(name, choices, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{hint} Allowed: {', '.join(choices)}."
