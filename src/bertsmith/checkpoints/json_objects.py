"""Small JSON files that strangers may have written."""

import json
from pathlib import Path
from typing import Any

from bertsmith.errors import CheckpointError

_MOST_BYTES = 8 << 20


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


def parse(text: str | bytes) -> Any:
    """The JSON value in `text`; ValueError where there is none, where it is too deep or where a key stands twice."""
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _read(file: Path) -> Any:
    try:
        size = file.stat().st_size
        if size > _MOST_BYTES:
            raise CheckpointError(f"{file}: {size:,} bytes, too large for a file of settings.")
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file}: not UTF-8 ({error.reason}). Copy the folder again, whole.") from None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror}).") from None
    try:
        return parse(text)
    except ValueError as error:
        hint = " It is a git-lfs pointer: fetch the real file with `git lfs pull`." if is_lfs_pointer(text) else ""
        raise CheckpointError(f"{file}: not readable as JSON ({error}).{hint}") from None


def write_object(file: Path, value: dict[str, Any] | list[Any]) -> None:
    """Write `value` for people and programs: indented, UTF-8, a line feed at the end. NaN is refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    file.write_text(text + "\n", encoding="utf-8", newline="\n")


def is_lfs_pointer(text: str | bytes) -> bool:
    """Whether a file that starts with `text` is what git leaves when git-lfs has not fetched the real one."""
    start = text[:40].encode() if isinstance(text, str) else text[:40]
    return start.startswith(b"version https://git-lfs")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, item in pairs:
        if name in value:
            raise ValueError(f"the key {name!r:.80} stands there twice")
        value[name] = item
    return value
