"""Prepare once: text becomes token shards, which any number of runs then read.

Documents stream through, tokenized by one process or by many, written in their order by one. So the folder is the same
byte for byte whatever the number of processes, and memory does not grow with the corpus.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from bertsmith.data.corpora import Corpus, Paths
from bertsmith.data.shards import FORMAT, MANIFEST, TOKENIZER, VERSION, ShardWriter
from bertsmith.data.tokenizing import Counts, TokenizedDocument, tokenize
from bertsmith.errors import DataError, UsageError
from bertsmith.folders import publish
from bertsmith.progress import Progress, silent
from bertsmith.text import Tokenizer


@dataclass(frozen=True)
class Prepared:
    """What `prepare` made: the folder, how much went into each split, and what was met on the way."""

    path: Path
    train_documents: int
    train_tokens: int
    heldout_documents: int
    heldout_tokens: int
    counts: Counts


def prepare(
    corpus: Corpus | Paths,
    tokenizer: Tokenizer,
    out: str | os.PathLike[str],
    *,
    language: str = "en",
    heldout: float = 0.02,
    processes: int = 1,
    shard_tokens: int = 1 << 26,
    progress: Progress = silent,
) -> Prepared:
    """Turn text into a shard folder at `out`, which must not exist yet. It appears whole or not at all.

    Args:
        corpus: files or folders; a `Corpus` where their format must be told.
        tokenizer: stored with the shards.
        out: the new folder.
        language: ISO 639-1 code, for the sentence splitter. Each line of a document is a paragraph and is split by
            itself, so text that has one sentence a line stays as it is.
        heldout: share of documents kept apart for evaluation: every k-th one, or the last if there are fewer; of a
            single document its last paragraphs. 0 for none.
        processes: how many tokenize; the result is the same for any number. More than one are new interpreters, so a
            script that asks for them guards its main part by `if __name__ == "__main__":`.
        shard_tokens: a shard ends with the document that reaches this number.
        progress: called with the number of documents done.

    Raises:
        UsageError: an option is out of range, or `out` exists.
        DataError: the text cannot be used.
    """
    if not 0 <= heldout <= 0.5:
        raise UsageError(f"heldout {heldout}: expected a share from 0 to 0.5")
    if processes < 1 or shard_tokens < 1:
        raise UsageError(f"processes {processes}, shard_tokens {shard_tokens}: both must be at least 1")
    if not isinstance(corpus, Corpus):
        corpus = Corpus(corpus)
    documents = corpus.documents()
    token_bytes = 2 if len(tokenizer.vocabulary) <= 1 << 16 else 4
    counts = Counts()
    with publish(out) as folder:
        tokenizer.save(folder / TOKENIZER)
        train = ShardWriter(folder, "train", token_bytes, shard_tokens)
        apart = ShardWriter(folder, "heldout", token_bytes, shard_tokens)
        tokenized = _count(tokenize(documents, tokenizer, language, processes), counts, progress)
        for document, is_heldout in _hold_out(tokenized, heldout):
            (apart if is_heldout else train).add(document.tokens, document.sentence_lengths)
        train.close()
        apart.close()
        progress("preparing", counts.documents, counts.documents)
        if not train.tokens:
            raise DataError(f"The text in {corpus.name} has no token: nothing is left of it after normalization.")
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "token_bytes": token_bytes,
            "vocab_size": len(tokenizer.vocabulary),
            "tokenizer_sha256": tokenizer.sha256,
            "splits": {"train": train.summary(), "heldout": apart.summary()},
            "statistics": _statistics(counts),
            "options": {"language": language, "format": corpus.format, "field": corpus.field, "heldout": heldout},
            "sources": corpus.sources(),
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        (folder / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
    return Prepared(Path(out), train.documents, train.tokens, apart.documents, apart.tokens, counts)


def _statistics(counts: Counts) -> dict[str, Any]:
    return {f.name: getattr(counts, f.name) for f in fields(counts)} | {
        "fertility": round(counts.fertility, 6),
        "unknown_rate": round(counts.unknown_rate, 8),
        "sentences_per_document": round(counts.sentences / max(1, counts.documents), 4),
        "tokens_per_sentence": round(counts.tokens / max(1, counts.sentences), 4),
    }


def _count(
    results: Iterable[tuple[list[TokenizedDocument], Counts]], counts: Counts, progress: Progress
) -> Iterator[TokenizedDocument]:
    """Pass the documents on, one by one, and add up the counts of each chunk."""
    for documents, found in results:
        yield from documents
        counts.add(found)
        progress("preparing", counts.documents, None)


def _hold_out(documents: Iterator[TokenizedDocument], heldout: float) -> Iterator[tuple[TokenizedDocument, bool]]:
    """Say of each document whether it is held out. One document is always kept in hand, as it may be the last."""
    every = round(1 / heldout) if heldout else 0
    in_hand = next(documents, None)
    if in_hand is None:
        return
    number = 1
    for following in documents:
        yield in_hand, bool(every) and number % every == 0
        in_hand, number = following, number + 1
    if every and number == 1:
        yield from _cut_in_two(in_hand, heldout)
    else:
        yield in_hand, bool(every) and (number % every == 0 or number < every)


def _cut_in_two(document: TokenizedDocument, heldout: float) -> Iterator[tuple[TokenizedDocument, bool]]:
    """A single document: hold out its last paragraphs, or its last sentences if it has one paragraph only."""
    ends = np.cumsum(document.sentence_lengths)
    cuts = document.paragraph_starts[1:] if len(document.paragraph_starts) > 1 else np.arange(1, len(ends))
    if not len(cuts):
        yield document, False  # a single sentence cannot be shared
        return
    wanted = (1 - heldout) * len(document.tokens)
    cut = int(cuts[np.abs(ends[cuts - 1] - wanted).argmin()])
    token = int(ends[cut - 1])
    none = np.empty(0, np.int64)
    yield TokenizedDocument(document.tokens[:token], document.sentence_lengths[:cut], none), False
    yield TokenizedDocument(document.tokens[token:], document.sentence_lengths[cut:], none), True
