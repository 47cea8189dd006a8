"""The seal of an index: which version of its table was acknowledged, and what every file of it must hold.

`index.json` lies beside LanceDB's table. Lance writes each change as new files and shows it by renaming a manifest into
place, so a killed process leaves whole versions; but it waits for no disk, so a machine that stops can leave empty files
under the names of whole ones (lance-format/lance does no fsync on local disks), and it has no checksums. So each
change here is: Lance's commit, fsync of its new files, then a new seal, renamed into place and fsynced. Only then is it
acknowledged. What lies beyond the seal never was, and the next writer takes it away.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from bertsmith.config import from_dict, to_dict
from bertsmith.errors import CheckpointError, ConfigError, UsageError
from bertsmith.folders import cannot_write, fsync, sha256_of
from bertsmith.search.fields import Kind
from bertsmith.search.fingerprint import Fingerprint
from bertsmith.search.places import Place

SEAL = "index.json"
TABLE = "texts.lance"
FORMAT = 1
_HINT = "latest_version_hint.json"  # Lance's note to itself, overwritten at each commit; it may be wrong or missing
_MOST_BYTES = 256 << 20
_NEWEST_FIRST = 2**64 - 1  # manifests are named by this less their version


@dataclass(frozen=True, kw_only=True)
class Description:
    """What an index is made of.

    `model` is where the model lay that made it, and `options` are how it made vectors, as plain values. `columns` are the
    texts' other columns and what they hold. `language` is that of the stemmer and the stop words of full-text search, None
    for neither.
    """

    fingerprint: Fingerprint
    model: str
    options: dict[str, Any] = field(default_factory=dict)
    language: str | None = "English"
    columns: dict[str, Kind] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Seal:
    """One acknowledged state. `files` are size and SHA-256 by name inside the table's folder. While `clearing`, files of
    older versions are being removed, so some may be missing that nothing needs."""

    description: Description
    version: int
    files: dict[str, tuple[int, str]]
    clearing: bool = False
    format: int = FORMAT


def read_seal(place: Place) -> Seal:
    """The seal of the index at a place.

    Raises:
        UsageError: there is no index.
        CheckpointError: the seal is damaged, or of a later bertsmith.
    """
    file = f"{place}/{SEAL}"
    try:
        content = place.read(SEAL, _MOST_BYTES)
        stored = json.loads(content) if len(content) <= _MOST_BYTES else None
        if not isinstance(stored, dict) or stored.get("sha256") != _digest(stored.get("seal")):
            raise ValueError("its content is not what was written")
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{place}: there is no index here ({SEAL} is missing). Make one: bertsmith index --model MODEL FILE -o INDEX"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: damaged ({error}). Make the index anew, or take a copy of it.") from None
    if stored["seal"].get("format") != FORMAT:
        raise CheckpointError(f"{file}: of format {stored['seal'].get('format')}, and this bertsmith reads {FORMAT}.")
    try:
        return from_dict(Seal, stored["seal"])
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}.") from None


def described(path: str | Path) -> Description | None:
    """What the index at `path` is made of; None where there is none.

    Raises:
        CheckpointError: its seal is damaged, or of a later bertsmith.
    """
    place = Place(path)
    return read_seal(place).description if place.has(SEAL) else None


def write_seal(path: Path, seal: Seal) -> None:
    """Acknowledge: the seal is there, durably, when this returns, or the one before still is."""
    content = to_dict(seal)
    temporary = path / f".{SEAL}.new"
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            json.dump({"sha256": _digest(content), "seal": content}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path / SEAL)
        fsync(path)
    except OSError as error:
        raise cannot_write(path, error) from error


def sealed_files(path: Path, before: Mapping[str, tuple[int, str]]) -> dict[str, tuple[int, str]]:
    """Every file of the table, with those that are not in `before` made durable and hashed: Lance never changes a file."""
    table, found, folders = path / TABLE, dict[str, tuple[int, str]](), set[Path]()
    try:
        for name, file in sorted(_files(table)):
            if name in before:
                found[name] = before[name]
                continue
            fsync(file)
            folders.update((file.parent, file.parent.parent))
            found[name] = (file.stat().st_size, sha256_of(file))
        for folder in sorted(folders, reverse=True):
            fsync(folder)
    except OSError as error:
        raise cannot_write(path, error) from error
    return found


def check_sizes(place: Place, seal: Seal) -> None:
    """Raise a CheckpointError that names the first file of a sealed index which is missing or of another size, or says that
    the sealed manifest, which leads to all others, holds something else."""
    sizes = place.sizes(TABLE)
    for name, (expected, _) in seal.files.items():
        file, size = f"{place}/{TABLE}/{name}", sizes.get(name)
        if size is None and not seal.clearing:
            raise CheckpointError(f"{file}: this file of the index is missing.{_REMEDY}")
        if size not in (None, expected):
            raise CheckpointError(f"{file}: damaged: it has {size:,} bytes, and {expected:,} were written.{_REMEDY}")
    _check_content(place, seal, f"_versions/{_NEWEST_FIRST - seal.version}.manifest")


def check_contents(place: Place, seal: Seal) -> None:
    """`check_sizes`, then the SHA-256 of every file."""
    check_sizes(place, seal)
    for name in seal.files:
        _check_content(place, seal, name)


def _check_content(place: Place, seal: Seal, name: str) -> None:
    file = f"{TABLE}/{name}"
    with suppress(FileNotFoundError):
        if name in seal.files and place.sha256_of(file) != seal.files[name][1]:
            raise CheckpointError(f"{place}/{file}: damaged: its content is not what was written.{_REMEDY}")


def roll_back(path: Path, seal: Seal) -> None:
    """Take away what lies beyond the seal: versions that were written and never acknowledged, by a writer that died."""
    versions = path / TABLE / "_versions"
    beyond = [file for file in versions.glob("*.manifest") if _version(file) > seal.version]
    try:
        for file in sorted(beyond):  # the newest first, so that what is left is whole at any moment
            file.unlink()
        if beyond:
            (versions / _HINT).unlink(missing_ok=True)
            fsync(versions)
    except OSError as error:
        raise cannot_write(path, error) from error


def without_missing(path: Path, seal: Seal) -> Seal:
    """The seal less the files that were cleared away, once that has ended."""
    there = {name: entry for name, entry in seal.files.items() if (path / TABLE / name).exists()}
    return replace(seal, files=there, clearing=False)


def _files(table: Path) -> Iterator[tuple[str, Path]]:
    for folder, _, names in os.walk(table):
        for name in names:
            if name != _HINT:
                file = Path(folder) / name
                yield file.relative_to(table).as_posix(), file


def _version(manifest: Path) -> int:
    return _NEWEST_FIRST - int(manifest.stem) if manifest.stem.isdecimal() else 0


def _digest(content: Any) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


_REMEDY = " Make the index anew, or take a copy of it."
