"""Documents to token ids, sentence by sentence, and what is measured on the way. A pure function of a piece of text."""

from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain

import numpy as np

from bertsmith.data.corpora import Document
from bertsmith.data.duplicates import SHINGLE, signatures
from bertsmith.data.languages import identify
from bertsmith.data.passages import passages
from bertsmith.data.pieces import COLUMNS, Piece, TokenizedPiece
from bertsmith.data.quality import FIGURES, figures
from bertsmith.errors import DataError
from bertsmith.text import Tokenizer, split_sentences


@dataclass
class Counts:
    """What was met in the text. `documents`, `sentences` and `tokens` are those that were written, of both splits."""

    documents: int = 0
    sentences: int = 0
    tokens: int = 0
    words: int = 0
    unknown_words: int = 0
    empty_documents: int = 0
    empty_sentences: int = 0
    single_sentence_documents: int = 0
    longest_sentence: int = 0

    @property
    def fertility(self) -> float:
        """Tokens per word, where a word is a token with the `##` tokens behind it (a punctuation mark is one)."""
        return self.tokens / max(1, self.words)

    @property
    def unknown_rate(self) -> float:
        """Share of words that became [UNK]."""
        return self.unknown_words / max(1, self.words)


@dataclass(frozen=True)
class Tokenization:
    """Tokenizes a piece.

    Attributes:
        tokenizer: as it is stored with the shards.
        language: for the sentence splitter.
        identify_languages: whether to say which language each document is in (needs the extra `corpus`).
        sign: whether to compute the signatures that near-duplicates are found by (needs the extra `corpus`).
    """

    tokenizer: Tokenizer
    language: str
    identify_languages: bool
    sign: bool

    @property
    def token_bytes(self) -> int:
        """Bytes of a stored token id."""
        return 2 if len(self.tokenizer.vocabulary) <= 1 << 16 else 4

    def __call__(self, piece: Piece) -> TokenizedPiece:
        """Raises DataError, with path and line, for text that cannot be encoded."""
        met = [self._document(document) for document in piece.documents]
        done = [one for one in met if len(one.tokens)]
        sources = list(dict.fromkeys(one.source for one in done))
        tokens = np.concatenate([np.empty(0, np.int32), *(one.tokens for one in done)])
        bounds = np.cumsum([0, *(len(one.tokens) for one in done)])
        signed, shingles = np.empty((len(done), 0), np.uint32), np.zeros(len(done), np.int64)
        if self.sign:
            hashes, of_documents = passages(tokens, bounds, self.tokenizer.vocabulary, SHINGLE)
            signed, shingles = signatures(hashes, of_documents), np.diff(of_documents)
        columns = {
            "source": [sources.index(one.source) for one in done],
            "line": [one.line for one in done],
            "apart": [piece.apart] * len(done),
            "sentences": [len(one.sentence_lengths) for one in done],
            "tokens": np.diff(bounds),
            "words": [one.words for one in done],
            "unknown_words": [one.unknown_words for one in done],
            "longest_sentence": [one.sentence_lengths.max() for one in done],
            "shingles": shingles,
            **dict(zip(FIGURES, zip(*(one.figures for one in done), strict=True), strict=False)),
        }
        return TokenizedPiece(
            tokens=tokens.astype(f"<u{self.token_bytes}"),
            sentence_lengths=np.concatenate([np.empty(0, np.int64), *(one.sentence_lengths for one in done)]),
            starts_paragraph=np.concatenate([np.empty(0, bool), *(one.starts_paragraph for one in done)]),
            table=np.array([columns.get(name, []) for name in COLUMNS], np.int64).T,
            digests=np.frombuffer(b"".join(one.digest for one in done), "<u8").reshape(-1, 2),
            signatures=signed,
            languages=np.array([one.language for one in done] if self.identify_languages else [], "U32"),
            sources=np.array(sources, "U"),
            empty=np.array([len(met) - len(done), sum(one.empty_sentences for one in met)]),
        )

    def _document(self, document: Document) -> "_Tokenized":
        try:
            paragraphs = [split_sentences(line, self.language) for line in document.text.split("\n") if line.strip()]
            ids = self.tokenizer.ids_batch(chain.from_iterable(paragraphs))
        except DataError as error:
            raise DataError(f"{document.source}, line {document.line}: {error}") from None
        lengths = np.array([len(sentence) for sentence in ids], np.int64)
        kept = lengths > 0  # a sentence of control characters has no token
        tokens = np.concatenate([np.empty(0, np.int32), *ids])
        # Paragraph starts in kept sentences: how many were kept before each paragraph.
        before = np.concatenate(([0], np.cumsum(kept)))
        firsts = before[np.cumsum([0, *map(len, paragraphs)])[:-1]]
        starts = np.zeros(int(kept.sum()), bool)
        starts[firsts[firsts < len(starts)]] = True
        found = figures(document.text)
        return _Tokenized(
            document.source,
            document.line,
            tokens,
            lengths[kept],
            starts,
            words=int((~self.tokenizer.vocabulary.is_continuation[tokens]).sum()),
            unknown_words=int((tokens == self.tokenizer.vocabulary.unk_id).sum()),
            empty_sentences=int((~kept).sum()),
            figures=found,
            language=identify(document.text, found[FIGURES.index("letters")]) if self.identify_languages else "",
            digest=blake2b(" ".join(document.text.split()).encode("utf-8"), digest_size=16).digest(),
        )


@dataclass(frozen=True)
class _Tokenized:
    source: str
    line: int
    tokens: np.ndarray
    sentence_lengths: np.ndarray
    starts_paragraph: np.ndarray
    words: int
    unknown_words: int
    empty_sentences: int
    figures: tuple[int, ...]
    language: str
    digest: bytes
