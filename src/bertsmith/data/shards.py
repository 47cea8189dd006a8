"""Shards: a tokenized corpus on disk, mapped into memory, so that any piece of any size of corpus is one slice away.

    manifest.json                  what is inside, made from what, with which tokenizer
    integrity.json                 size and SHA-256 of every file (bertsmith.folders)
    tokenizer/                     the tokenizer itself
    train-00000.tokens.bin         token ids, little endian, 2 bytes each if the vocabulary allows it, otherwise 4
    train-00000.sentences.bin      uint64: number of the first token of each sentence in this shard, then their end
    train-00000.documents.bin      uint64: number of the first sentence of each document in this shard, then their end
    heldout-00000...               the same for the held-out documents

A document never crosses a shard, and no special token is stored: [CLS] and [SEP] belong to examples, not to text.
"""

import json
import os
from bisect import bisect_right
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from bertsmith.errors import CheckpointError, UsageError
from bertsmith.folders import INTEGRITY, damage, sha256_of, verify
from bertsmith.text import Tokenizer, Vocabulary

FORMAT = "bertsmith-shards"
VERSION = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer"

_PARTS = ("tokens", "sentences", "documents")

Split = Literal["train", "heldout"]


@dataclass
class ShardWriter:
    """Writes the documents of one split into `folder`, beginning a new shard after `shard_tokens` tokens.

    Documents go straight to disk; nothing grows with the corpus but the list of shard names.
    """

    folder: Path
    split: Split
    token_bytes: int
    shard_tokens: int

    def __post_init__(self) -> None:
        self.documents = self.sentences = self.tokens = 0
        self.shards: list[str] = []
        self._files: tuple[BinaryIO, ...] | None = None
        self._open_files = ExitStack()
        self._sentences_here = self._tokens_here = 0

    def add(self, tokens: np.ndarray, sentence_lengths: np.ndarray) -> None:
        """Append a document: its token ids `(tokens,)` and the number of tokens in each of its sentences."""
        if not len(sentence_lengths) or sentence_lengths.min() < 1 or sentence_lengths.sum() != len(tokens):
            raise ValueError("a document has sentences, each has tokens, and their lengths add up to the document's")
        if self._files is None:
            self._files = self._begin()
        token_file, sentence_file, document_file = self._files
        token_file.write(tokens.astype(_token_type(self.token_bytes)).tobytes())
        ends = self._tokens_here + np.cumsum(sentence_lengths)
        sentence_file.write(ends.astype("<u8").tobytes())
        self._sentences_here += len(sentence_lengths)
        self._tokens_here += len(tokens)
        document_file.write(np.array([self._sentences_here], "<u8").tobytes())
        self.documents += 1
        self.sentences += len(sentence_lengths)
        self.tokens += len(tokens)
        if self._tokens_here >= self.shard_tokens:
            self.close()

    def close(self) -> None:
        """Finish the shard at hand. Must be called after the last document; may be called again."""
        self._open_files.close()
        self._files = None

    def summary(self) -> dict[str, Any]:
        """What the manifest says of this split."""
        return {
            "documents": self.documents,
            "sentences": self.sentences,
            "tokens": self.tokens,
            "shards": self.shards,
        }

    def _begin(self) -> tuple[BinaryIO, ...]:
        name = f"{self.split}-{len(self.shards):05d}"
        self.shards.append(name)
        self._sentences_here = self._tokens_here = 0
        files = tuple(self._open_files.enter_context((self.folder / _file(name, p)).open("wb")) for p in _PARTS)
        for bounds in files[1:]:
            bounds.write(bytes(8))  # the first start is 0; every later number is an end and the next start
        return files


@dataclass(frozen=True)
class _Shard:
    """Views of one shard's three files."""

    tokens: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray


@dataclass(frozen=True, eq=False)
class Shards:
    """One split of a shard folder, its documents numbered through all shards. Text stays on disk until it is touched.

    `documents`, `sentences` and `tokens` count what is inside. `sha256` stands for all of the folder in a model's lineage,
    the shards in `without` too, which were left out.
    """

    path: Path
    split: Split
    tokenizer: Tokenizer
    manifest: Mapping[str, Any]
    sha256: str
    documents: int
    sentences: int
    tokens: int
    _shards: tuple[_Shard, ...]
    without: tuple[str, ...] = ()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        split: Split = "train",
        *,
        thorough: bool = True,
        without: tuple[str, ...] = (),
    ) -> "Shards":
        """Open a folder that `prepare` has made.

        Sizes are checked always; hashes too, unless `thorough` is False (about a second per gigabyte). The shards in
        `without` (see `damaged_shards`) are not looked at.

        Raises:
            CheckpointError: not a shard folder, damaged, of another version, or with another tokenizer inside.
            UsageError: the split has no documents.
        """
        path = Path(path)
        verify(path, thorough=thorough, besides=[_file(name, part) for name in without for part in _PARTS])
        manifest = read_manifest(path)
        tokenizer = Tokenizer.load(path / TOKENIZER)
        if tokenizer.sha256 != manifest["tokenizer_sha256"]:
            raise CheckpointError(
                f"{path}: the text was prepared with tokenizer {manifest['tokenizer_sha256']}, "
                f"the folder holds {tokenizer.sha256}. Prepare the text again."
            )
        counts = manifest["splits"].get(split)
        if counts is None or not counts["documents"]:
            have = [name for name, other in manifest["splits"].items() if other["documents"]]
            raise UsageError(f"{path}: there are no {split} documents in this folder, only {', '.join(have)}.")
        names = [name for name in counts["shards"] if name not in without]
        if not names:
            raise CheckpointError(f"{path}: every shard of {split} text is damaged. Prepare the text again.")
        shards = tuple(_map(path / name, manifest["token_bytes"]) for name in names)
        found = {
            "documents": sum(len(shard.documents) - 1 for shard in shards),
            "sentences": sum(len(shard.sentences) - 1 for shard in shards),
            "tokens": sum(len(shard.tokens) for shard in shards),
        }
        if len(names) == len(counts["shards"]) and found != {name: counts[name] for name in found}:
            raise CheckpointError(f"{path / MANIFEST}: lists {counts} for {split}, and the shards hold {found}.")
        digest = sha256_of(path / INTEGRITY)
        return cls(path, split, tokenizer, manifest, digest, **found, _shards=shards, without=without)

    def beside(self, split: Split) -> "Shards":
        """Another split of the same folder, without the same shards."""
        return Shards.load(self.path, split, thorough=False, without=self.without)

    def head(self, documents: int) -> "Shards":
        """The first `documents` documents, or what the first shard has of them: for a quick look."""
        first = self._shards[0]
        documents = min(documents, len(first.documents) - 1)
        sentences = int(first.documents[documents])
        tokens = int(first.sentences[sentences])
        few = _Shard(first.tokens[:tokens], first.sentences[: sentences + 1], first.documents[: documents + 1])
        return replace(self, documents=documents, sentences=sentences, tokens=tokens, _shards=(few,))

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the stored ids."""
        return self.tokenizer.vocabulary

    @cached_property
    def sentence_bounds(self) -> np.ndarray:
        """int64 `(sentences + 1,)`: number of the first token of each sentence of the split, then the end."""
        return _join([shard.sentences for shard in self._shards])

    @cached_property
    def document_bounds(self) -> np.ndarray:
        """int64 `(documents + 1,)`: number of the first sentence of each document of the split, then the end."""
        return _join([shard.documents for shard in self._shards])

    def token_slice(self, start: int, end: int) -> np.ndarray:
        """View of the tokens numbered `start` to `end` (exclusive), which must lie in one document."""
        shard = bisect_right(self._first_tokens, start) - 1
        first = self._first_tokens[shard]
        return self._shards[shard].tokens[start - first : end - first]

    def tokens_between(self, document: int, first_sentence: int, end_sentence: int) -> np.ndarray:
        """View of the tokens of a document's sentences `first_sentence` to `end_sentence` (exclusive)."""
        base = int(self.document_bounds[document])
        start, end = self.sentence_bounds[base + first_sentence], self.sentence_bounds[base + end_sentence]
        return self.token_slice(int(start), int(end))

    def sentence_starts(self, document: int) -> np.ndarray:
        """int64 `(its sentences + 1,)`: where a document's sentences start, counted from its first token; the end."""
        first, end = self.document_bounds[document : document + 2]
        bounds = self.sentence_bounds[first : end + 1]
        return bounds - bounds[0]

    def token_counts(self) -> np.ndarray:
        """int64 `(vocab_size,)`: how often each token occurs; their entropy is a reference line for losses."""
        counts = np.zeros(len(self.vocabulary), np.int64)
        for shard in self._shards:
            for start in range(0, len(shard.tokens), 1 << 22):
                counts += np.bincount(shard.tokens[start : start + (1 << 22)], minlength=len(counts))
        return counts

    @cached_property
    def _first_tokens(self) -> list[int]:
        return [0, *np.cumsum([len(shard.tokens) for shard in self._shards]).tolist()][:-1]


def damaged_shards(path: str | os.PathLike[str]) -> dict[str, CheckpointError]:
    """What is wrong with each shard of a folder that has a damaged file, by the shard's name. Hashes every file.

    Raises:
        CheckpointError: something else in the folder is damaged.
    """
    splits = read_manifest(Path(path))["splits"].values()
    owners = {_file(name, part): name for split in splits for name in split["shards"] for part in _PARTS}
    found: dict[str, CheckpointError] = {}
    for file, problem in damage(path).items():
        if file not in owners:
            raise problem
        found.setdefault(owners[file], problem)
    return found


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a shard folder.

    Raises:
        CheckpointError: there is none, or it is of another format or version.
    """
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        kind, version = manifest["format"], manifest["version"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{file}: not the manifest of prepared text. Run bertsmith prepare first.") from None
    if (kind, version) != (FORMAT, VERSION):
        raise CheckpointError(f"{file}: expected {FORMAT} version {VERSION}, found {kind} version {version}.")
    return manifest


def _file(shard: str, part: str) -> str:
    return f"{shard}.{part}.bin"


def _token_type(token_bytes: int) -> np.dtype[Any]:
    return np.dtype(f"<u{token_bytes}")


def _map(stem: Path, token_bytes: int) -> _Shard:
    def view(part: str, kind: Any) -> np.ndarray:
        # The plain ndarray keeps the map alive and is several times quicker to slice than numpy.memmap.
        return np.memmap(f"{stem}.{part}.bin", dtype=kind, mode="r").view(np.ndarray)

    tokens, sentences, documents = (
        view("tokens", _token_type(token_bytes)),
        view("sentences", "<i8"),
        view("documents", "<i8"),
    )
    if sentences[0] or documents[0] or sentences[-1] != len(tokens) or documents[-1] != len(sentences) - 1:
        raise CheckpointError(f"{stem}: tokens, sentences and documents do not fit each other. Prepare the text again.")
    return _Shard(tokens, sentences, documents)


def _join(parts: list[np.ndarray]) -> np.ndarray:
    """Bounds of several shards as the bounds of their whole."""
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0, *(part[-1] for part in parts)])
    shifted = [part[:-1] + offset for part, offset in zip(parts, offsets[:-1], strict=True)]
    return np.concatenate([*shifted, offsets[-1:]])
