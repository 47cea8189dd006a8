"""Small JSON files that strangers may have written."""

import json
from pathlib import Path
from typing import Any, NoReturn

from bertsmith.errors import CheckpointError
from bertsmith.folders import is_lfs_pointer, read_small

# The largest are lists of labels: 70,000 codes of diseases take 4 MB, under id2label and label2id.
_MOST_BYTES = 8 << 20

# A value of two bytes in a file takes up to 64 in memory, so values are counted before they are made.
_MOST_VALUES = 300_000


def read_object(file: Path) -> dict[str, Any]:
    """The object in `file`.

    Raises:
        CheckpointError: the file is missing, too large, no JSON, not an object, or names a key twice.
    """
    value = _read(file)
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: expected a JSON object, found {type(value).__name__}.")
    return value


def read_objects(file: Path) -> list[dict[str, Any]]:
    """The list of objects in `file`. Raises as `read_object`."""
    value = _read(file)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise CheckpointError(f"{file}: expected a list of JSON objects.")
    return value


def parse(text: bytes, most_values: int = _MOST_VALUES) -> Any:
    """The JSON value in `text`; ValueError where there is none, or what no honest file has.

    That is: more than `most_values` values, deep nesting, a key that stands twice, NaN or infinity.
    """
    if sum(map(text.count, (b"[", b"{", b","))) > most_values:
        raise ValueError(f"it has more than {most_values:,} values")
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: {error.reason}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _read(file: Path) -> Any:
    text = b""
    try:
        text = read_small(file, _MOST_BYTES)
        return parse(text)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror}). Copy the folder again, whole.") from None
    except ValueError as error:
        hint = "It is a git-lfs pointer: fetch the real file with `git lfs pull`" if is_lfs_pointer(text) else ""
        hint = hint or "Copy the folder again, whole"
        raise CheckpointError(f"{file}: not readable as JSON ({error}). {hint}.") from None


def write_object(file: Path, value: dict[str, Any] | list[Any]) -> None:
    """Write `value` for people and programs: indented, UTF-8, a line feed at the end. NaN is refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    file.write_text(text + "\n", encoding="utf-8", newline="\n")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number that JSON has")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, item in pairs:
        if name in value:
            raise ValueError(f"the key {name!r:.80} stands there twice")
        value[name] = item
    return value
