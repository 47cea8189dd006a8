"""Vectors as a stream of plain values, for JSON lines."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from bertsmith.embed.embedder import Embedder
from bertsmith.embed.pieces import Unit
from bertsmith.embed.reading import GivenText
from bertsmith.embed.token_vectors import TokenVectors
from bertsmith.errors import UsageError

_DIGITS = 6


def vector_records(
    embedder: Embedder, texts: Iterable[GivenText], *, unit: Unit = "text", names: tuple[str, ...] = (), ahead: int = 64
) -> Iterator[dict[str, Any]]:
    """For each text, in order: `text` (and `pair`), the columns that go along by their `names`, `vector`, `truncated`,
    `windows`. With the unit "token" or "word", instead of `vector` a list `tokens` or `words` of such objects: the piece,
    `start`, `end`, `part` for pairs, `vector`.

    So many texts are read `ahead` of the first vector. Numbers have six digits behind the point.

    Raises:
        UsageError: a column that goes along has a name that is needed.
    """
    if taken := sorted({"text", "pair", "vector", "tokens", "words", "truncated", "windows"} & set(names)):
        raise UsageError(f"The column {taken[0]!r} cannot go along: each record has one of that name itself.")
    remaining = iter(texts)
    while chunk := list(islice(remaining, ahead)):
        given = [one.text for one in chunk]
        if unit == "text":
            made = embedder.embed(given)
            counts = zip(made.truncated.tolist(), made.windows.tolist(), strict=True)
            found: list[dict[str, Any]] = [{"vector": vector} for vector in _rounded(made.vectors)]
        else:
            pieces = list(embedder.token_vectors(given) if unit == "token" else embedder.word_vectors(given))
            counts = [(one.truncated, one.windows) for one in pieces]
            found = [
                {f"{unit}s": _pieces(one, unit, isinstance(text, tuple))}
                for one, text in zip(pieces, given, strict=True)
            ]
        for one, vectors, (truncated, windows) in zip(chunk, found, counts, strict=True):
            texts_of = (
                {"text": one.text} if isinstance(one.text, str) else dict(zip(("text", "pair"), one.text, strict=True))
            )
            carried = dict(zip(names, one.carried, strict=False))
            yield carried | texts_of | vectors | {"truncated": truncated, "windows": windows}


def _pieces(found: TokenVectors, unit: Unit, pair: bool) -> list[dict[str, Any]]:  # noqa: FBT001
    rows = zip(found.pieces, found.offsets.tolist(), found.parts.tolist(), _rounded(found.vectors), strict=True)
    return [
        {unit: piece, "start": start, "end": end} | ({"part": part} if pair else {}) | {"vector": vector}
        for piece, (start, end), part, vector in rows
    ]


def _rounded(vectors: np.ndarray) -> list[list[float]]:
    return [[round(number, _DIGITS) for number in vector] for vector in vectors.tolist()]
