"""Prepare once: text becomes token shards, which any number of runs then read.

    documents ─► pieces ─► tokenized, by any number of processes ─► kept on disk until all are there
                                                                        │
    shards ◄─ written in order ◄─ leaks looked for ◄─ held out ◄─ duplicates left out

So the folder is the same byte for byte whoever did the work and however often it was interrupted. Memory does not grow
with the text; it grows by about 100 bytes a document, for what must be known of all documents at once.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from importlib.metadata import version as installed
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal, get_args

from bertsmith.data.assembly import Assembly
from bertsmith.data.corpora import Corpus, Paths
from bertsmith.data.duplicates import Duplicates, require_near
from bertsmith.data.languages import can_identify, check_language
from bertsmith.data.pieces import Piece, TokenizedPiece, cut
from bertsmith.data.pools import Pool, pool_of
from bertsmith.data.shards import FORMAT, MANIFEST, TOKENIZER, VERSION
from bertsmith.data.tokenizing import Counts, Tokenization
from bertsmith.data.workspace import Workspace, sweep
from bertsmith.errors import DataError, UsageError, nearest
from bertsmith.folders import publish
from bertsmith.progress import Progress, silent
from bertsmith.text import Tokenizer

Leaks = Literal["report", "drop"]

_PIECES = 1  # version of what stands in a piece
_TOKENIZING = "tokenizing documents"


@dataclass(frozen=True)
class Prepared:
    """What `prepare` made: the folder, how much went into each split, and what was met on the way.

    `statistics` is the report of the manifest. `notices` are sentences about this call: whether it went on from an
    earlier one, workers that died, what was not looked at.
    """

    path: Path
    train_documents: int
    train_tokens: int
    heldout_documents: int
    heldout_tokens: int
    counts: Counts
    statistics: dict[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def prepare(  # noqa: PLR0913 - what a user may choose; all but three have a default
    corpus: Corpus | Paths,
    tokenizer: Tokenizer,
    out: str | os.PathLike[str],
    *,
    language: str = "en",
    heldout: float = 0.02,
    heldout_text: Corpus | Paths | None = None,
    duplicates: Duplicates = "exact",
    leaks: Leaks = "report",
    processes: int = 1,
    cluster: str | None = None,
    shard_tokens: int = 1 << 26,
    progress: Progress = silent,
) -> Prepared:
    """Turn text into a shard folder at `out`, which must not exist yet. It appears whole or not at all.

    A call that was interrupted or failed is taken up by the next one with the same arguments, from the last finished
    piece of text (`bertsmith.data.workspace`); the folder will be the same. Other text or options begin anew where they
    must, and a notice says so.

    Args:
        corpus: files or folders; a `Corpus` where their format must be told.
        tokenizer: stored with the shards.
        out: the new folder.
        language: ISO 639-1 code, for the sentence splitter. Each line of a document is a paragraph and is split by
            itself, so text that has one sentence a line stays as it is.
        heldout: share of documents kept apart for evaluation: every k-th one, or the last if there are fewer; of a
            single document its last paragraphs. 0 for none.
        heldout_text: text to hold out, instead of a share of the corpus.
        duplicates: what to leave out: nothing ("keep"); documents whose text, but for white space, came before
            ("exact"); also those that share most of their wording with one before ("near", which needs the extra
            `corpus`; about 512 bytes of disk a document). With `heldout_text`, that comes first.
        leaks: what to do with training documents that hold half of the wording of a held-out one, or are its copy:
            only count them ("report"), or leave them out ("drop").
        processes: how many tokenize; the result is the same for any number. More than one are new interpreters, so a
            script that asks for them guards its main part by `if __name__ == "__main__":`.
        cluster: "ray" or "ray:ADDRESS" to tokenize on a Ray cluster instead (extra `cluster`).
        shard_tokens: a shard ends with the document that reaches this number.
        progress: hears "tokenizing documents" and "writing documents", both in documents.

    Raises:
        UsageError: an option is out of range, `out` exists, or another process prepares it.
        DataError: the text cannot be used.
        MissingExtra: an option needs a package that is not installed.
        CheckpointError: the disk is full. What is finished is kept.
        BertsmithError: a piece of text killed four processes.
    """
    _check(heldout, shard_tokens, duplicates, leaks)
    pool = pool_of(processes, cluster)
    task = Tokenization(tokenizer, check_language(language), can_identify(), sign=duplicates == "near")
    if task.sign:
        require_near()
    corpus = corpus if isinstance(corpus, Corpus) else Corpus(corpus)
    apart = heldout_text if heldout_text is None or isinstance(heldout_text, Corpus) else Corpus(heldout_text)
    place = Path(os.path.abspath(out))  # noqa: PTH100 - as publish does it, which must agree on the place
    if os.path.lexists(place):
        sweep(place)  # a call that was killed between its last two steps
    work = Workspace(place, _shape(task), TokenizedPiece)
    notices = _Notices(progress)
    options = {"language": language, "format": corpus.format, "field": corpus.field, "heldout": heldout}
    options |= {"duplicates": duplicates, "leaks": leaks}
    try:
        with publish(place) as folder:
            _tokenize(corpus, apart, task, pool, work, notices)
            manifest = _assemble(folder, work, task, (corpus, apart), options, shard_tokens, progress)
        work.keep = False
    finally:
        work.close()
    (train, held), statistics = manifest["splits"].values(), manifest["statistics"]
    return Prepared(
        Path(out),
        train["documents"],
        train["tokens"],
        held["documents"],
        held["tokens"],
        Counts(**{f.name: statistics[f.name] for f in fields(Counts)}),
        statistics,
        tuple(notices.heard),
    )


def _check(heldout: float, shard_tokens: int, duplicates: str, leaks: str) -> None:
    if not 0 <= heldout <= 0.5:
        raise UsageError(f"heldout {heldout}: expected a share from 0 to 0.5")
    if shard_tokens < 1:
        raise UsageError(f"shard_tokens {shard_tokens}: must be at least 1")
    for name, value, allowed in (("duplicates", duplicates, Duplicates), ("leaks", leaks, Leaks)):
        if value not in get_args(allowed):
            raise UsageError(f"{name} {value!r} is not known.{nearest(value, get_args(allowed))}")


def _nothing_left(corpus: Corpus, documents: int) -> str:
    if documents:
        return f"{corpus.name}: every document was held out or left out, so there is none to train on."
    return f"The text in {corpus.name} has no token: nothing is left of it after normalization."


def _shape(task: Tokenization) -> dict[str, Any]:
    """All that shapes a piece besides its text."""
    return {
        "pieces": _PIECES,
        "bertsmith": installed("bertsmith"),
        "tokenizer": task.tokenizer.sha256,
        "language": task.language,
        "languages": task.identify_languages,
        "signed": task.sign,
    }


class _Notices:
    """Sentences for the caller, told at once and kept."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.heard, self.documents = progress, list[str](), 0

    def __call__(self, sentence: str) -> None:
        self.heard.append(sentence)
        self.progress(_TOKENIZING, self.documents, None, sentence)


def _tokenize(
    corpus: Corpus,
    apart: Corpus | None,
    task: Tokenization,
    pool: Pool,
    work: Workspace[TokenizedPiece],
    notices: _Notices,
) -> None:
    """See to it that every piece of the text is in the workspace."""
    numbers, taken_over = count(), 0
    if work.begun_anew:
        notices("The options, the vocabulary or the version changed since an earlier start, so this one begins anew.")
    if not task.identify_languages:
        notices("Languages are not identified. For that: pip install 'bertsmith[corpus]'")

    def missing() -> Iterator[Piece]:
        nonlocal taken_over
        heldout = cut(apart.documents(), numbers, apart=True) if apart else ()
        for piece in chain(heldout, cut(corpus.documents(), numbers)):
            work.names.append(piece.name)
            if piece.name in work:
                taken_over += 1
                notices.documents += len(piece.documents)
            else:
                yield piece

    for piece, done in pool.map(task, missing(), notices):
        work.save(piece.name, done)
        notices.documents += len(piece.documents)
        notices.progress(_TOKENIZING, notices.documents, None)
    notices.progress(_TOKENIZING, notices.documents, notices.documents)
    if taken_over:
        notices(f"Went on from an earlier start: {taken_over:,} pieces of text were finished.")
    if taken_over < work.finished:
        notices(f"The text changed since an earlier start: {work.finished - taken_over:,} pieces of it were of no use.")


def _assemble(
    folder: Path,
    work: Workspace[TokenizedPiece],
    task: Tokenization,
    texts: tuple[Corpus, Corpus | None],
    options: dict[str, Any],
    shard_tokens: int,
    progress: Progress,
) -> dict[str, Any]:
    """Turn the finished pieces into the content of a shard folder; return its manifest."""
    corpus, apart = texts
    assembly = Assembly(work, task, progress)
    work.keep = assembly.documents > 0
    assembly.decide(options["duplicates"], 0 if apart else options["heldout"])
    splits, statistics = assembly.write(folder, shard_tokens, drop_leaks=options["leaks"] == "drop")
    if not splits["train"]["tokens"]:
        raise DataError(_nothing_left(corpus, assembly.documents))
    task.tokenizer.save(folder / TOKENIZER)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "token_bytes": task.token_bytes,
        "vocab_size": len(task.tokenizer.vocabulary),
        "tokenizer_sha256": task.tokenizer.sha256,
        "splits": splits,
        "statistics": statistics,
        "options": options,
        "sources": corpus.sources(),
        **({"heldout_sources": apart.sources()} if apart else {}),
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
    return manifest
