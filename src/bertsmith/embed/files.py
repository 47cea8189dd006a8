"""Files of texts to files of vectors, of any size: in constant memory, and taken up again where they were interrupted."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch

from bertsmith.config import to_dict
from bertsmith.data.pools import Pool, Processes, actors_of
from bertsmith.data.records import Format
from bertsmith.data.workspace import Workspace, sweep
from bertsmith.embed.embedder import Embedder
from bertsmith.embed.pieces import Counts, EmbeddedPiece, Embedding, Precision, TextPiece, Unit, cut
from bertsmith.embed.reading import TextFile, read_text_file
from bertsmith.embed.vector_files import WRITERS
from bertsmith.errors import DataError, UsageError, nearest
from bertsmith.folders import cannot_write, fsync, make_folder
from bertsmith.progress import Progress, silent

_PIECES = 1  # version of what stands in a piece
_EMBEDDING = "embedding texts"


@dataclass(frozen=True)
class Written(Counts):
    """What went into a file: its counts, and the `size` of the vectors.

    `columns` says how the columns of the file of texts were understood; `notices` are sentences about this call: whether it
    went on from an earlier one, and the like.
    """

    size: int = 0
    columns: str = ""
    notices: tuple[str, ...] = ()


def embed_file(  # noqa: PLR0913 - what a user may choose; all but three have a default
    embedder: Embedder,
    file: str | Path,
    out: str | Path,
    *,
    unit: Unit = "text",
    precision: Precision = "float32",
    format: Format = "auto",
    fields: tuple[str, ...] = (),
    keep: tuple[str, ...] = (),
    cluster: str | None = None,
    progress: Progress = silent,
) -> Written:
    """Write the vectors of all texts in `file` to `out`, in their order.

    `out` ends in .parquet or .arrow and has a row for each text: `line` (where it stands in `file`), `text` (and `pair`),
    the columns to `keep`, `vector` (a fixed-size list), `truncated` (tokens cut) and `windows`. With the unit "token" or
    "word" a row is one of those: `line`, the piece itself, `start` and `end` in characters, `part` for pairs, the columns
    to `keep`, `vector`. A file that ends in .npy has nothing but the vectors, (texts, size).

    Memory stays constant, and `out` appears whole or not at all; the folders above it are made where they are missing. A
    call that was interrupted is taken up by the next one with the same arguments, from the last finished piece of text
    (a few thousand texts at most), and the file will be the same byte for byte: `bertsmith.data.workspace`.

    Args:
        embedder: how texts become vectors.
        file: texts; `-` is standard input.
        out: the new file.
        unit: what has a vector: each text, token or word.
        precision: of the numbers in `out`, however they are computed.
        format: of `file`; "auto" goes by its ending, see `read_text_file`.
        fields: its columns with the text, two for pairs, by name or number; none: the column is guessed.
        keep: its columns to go along.
        cluster: "ray" or "ray:ADDRESS" to work on a Ray cluster (extra `cluster`). The processors of its machines
            should be of one kind: others add up in another order, and a last bit may differ.
        progress: hears "embedding texts".

    Raises:
        DataError: `file` cannot be read, or holds no text.
        UsageError: `out` exists already, cannot be written or cannot hold what is asked for.
        CheckpointError: the disk is full. What is finished is kept.
        MissingExtra: Ray is not installed.
    """
    place = _place(Path(out), unit, precision, keep)
    texts = read_text_file(Path(file), format=format, fields=fields, keep=keep)
    threads = torch.get_num_threads()
    work = Embedding(embedder, unit, precision, texts.carried, texts.pairs, threads)
    pool = Processes(1) if cluster is None else actors_of(cluster, threads)
    make_folder(place.parent)
    kept = Workspace(place, _shape(work) | {"columns": [*texts.layout.columns.texts, "", *keep]}, EmbeddedPiece)
    try:
        names, counts, notices = _embed(texts, work, pool, kept, progress)
        _write(place, names, work, kept, counts)
        kept.keep = False
    finally:
        kept.close()
    size = embedder.size if unit == "text" else embedder.token_size
    return Written(*counts.numbers, size=size, columns=str(texts.layout), notices=tuple(notices))


def _place(out: Path, unit: Unit, precision: Precision, keep: tuple[str, ...]) -> Path:
    """Where to write, if that can be."""
    for name, value, allowed in (("unit", unit, Unit), ("precision", precision, Precision)):
        if value not in get_args(allowed):
            raise UsageError(f"{name} {value!r} is not known.{nearest(value, get_args(allowed))}")
    place = Path(os.path.abspath(out))  # noqa: PTH100 - resolve() would follow a link at `out` and write elsewhere
    try:
        place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise cannot_write(out, error) from error
    else:
        sweep(place)  # a call that was killed between its last two steps
        raise UsageError(f"{out}: this already exists. Choose another place, or remove it first.")
    if out.suffix not in WRITERS:
        raise UsageError(f"{out}: vectors are written as Parquet, Arrow or npy. Choose a name that ends in .parquet.")
    if out.suffix == ".npy" and (unit != "text" or keep):
        raise UsageError(
            f"{out}: npy holds nothing but one vector for each text. Choose a name that ends in .parquet or .arrow."
        )
    return place


def _shape(work: Embedding) -> dict[str, Any]:
    """All that shapes a piece besides its text."""
    embedder = work.embedder
    return {
        "pieces": _PIECES,
        "versions": [version("bertsmith"), version("torch"), version("pyarrow")],
        "weights": embedder.weights_sha256,
        "tokenizer": [embedder.tokenizer.sha256, embedder.max_length],
        "options": to_dict(embedder.options),
        "made": [to_dict(embedder.pooling), embedder.normalize, to_dict(embedder.lane)],
        "rows": [work.unit, work.precision, str(work.schema)],
        "threads": work.threads,
    }


def _embed(
    texts: TextFile, work: Embedding, pool: Pool, kept: Workspace[EmbeddedPiece], progress: Progress
) -> tuple[list[str], Counts, list[str]]:
    """See to it that every piece is in the workspace; their names, what is in them, and what is to be said."""
    names, counts, notices, taken_over = list[str](), Counts(), list[str](), 0

    def notice(sentence: str) -> None:
        notices.append(sentence)
        progress(_EMBEDDING, counts.texts, None, sentence)

    def missing() -> Iterator[TextPiece]:
        nonlocal taken_over, counts
        for piece in cut(texts.texts, work.unit):
            names.append(piece.name)
            if piece.name not in kept:
                yield piece
            else:
                taken_over += 1
                counts += Counts(*kept.load(piece.name, "counts").counts.tolist())

    if kept.begun_anew:
        notice("The options, the model or the versions changed since an earlier start, so this one begins anew.")
    for piece, done in pool.map(work, missing(), notice):
        kept.save(piece.name, done)
        counts += Counts(*done.counts.tolist())
        progress(_EMBEDDING, counts.texts, None)
    if not counts.texts:
        raise DataError(f"{texts.path}: there is no text in this file.")
    progress(_EMBEDDING, counts.texts, counts.texts)
    if taken_over:
        notice(f"Went on from an earlier start: {taken_over:,} pieces of text were finished.")
    return names, counts, notices


def _write(out: Path, names: list[str], work: Embedding, kept: Workspace[EmbeddedPiece], counts: Counts) -> None:
    """The finished pieces as one file, in one atomic step."""
    temporary = kept.folder / f"whole{out.suffix}.part"
    try:
        with WRITERS[out.suffix](temporary, work.schema, counts.vectors) as write:
            for name in names:
                write(kept.load(name).rows)
        fsync(temporary)
        if os.path.lexists(out):
            raise UsageError(f"{out}: this already exists. Choose another place, or remove it first.")
        temporary.rename(out)
        fsync(out.parent)
    except OSError as error:
        raise cannot_write(out, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
