"""Documents to token ids, sentence by sentence, in this process or in several; the order of documents is kept."""

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields
from itertools import chain

import numpy as np

from bertsmith.data.corpora import Document
from bertsmith.errors import BertsmithError, DataError
from bertsmith.text import Tokenizer, split_sentences

_CHUNK_CHARACTERS = 1 << 18


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

    def add(self, other: "Counts") -> None:
        """Add the counts of other text to these."""
        for name in (f.name for f in fields(self)):
            both = getattr(self, name), getattr(other, name)
            setattr(self, name, max(both) if name == "longest_sentence" else sum(both))

    @property
    def fertility(self) -> float:
        """Tokens per word, where a word is a token with the `##` tokens behind it (a punctuation mark is one)."""
        return self.tokens / max(1, self.words)

    @property
    def unknown_rate(self) -> float:
        """Share of words that became [UNK]."""
        return self.unknown_words / max(1, self.words)


@dataclass(frozen=True)
class TokenizedDocument:
    """A document as arrays: token ids, tokens per sentence, and the number of the first sentence of each paragraph."""

    tokens: np.ndarray
    sentence_lengths: np.ndarray
    paragraph_starts: np.ndarray


def tokenize(
    documents: Iterable[Document], tokenizer: Tokenizer, language: str, processes: int
) -> Iterator[tuple[list[TokenizedDocument], Counts]]:
    """Tokenize chunk by chunk, in order, here or in `processes` others."""
    chunks = _chunks(documents)
    if processes == 1:
        for chunk in chunks:
            yield _tokenize_chunk(chunk, tokenizer, language)
        return
    # "spawn" starts from a clean interpreter: a fork would copy the threads' locks of whatever the caller has imported.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _Worker.start, (tokenizer, language)) as pool:
        waiting: deque[Future[tuple[list[TokenizedDocument], Counts]]] = deque()
        try:
            for chunk in chunks:
                waiting.append(pool.submit(_Worker.work, chunk))
                if len(waiting) > 2 * processes:  # bounds the memory when writing is slower than tokenizing
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise BertsmithError(
                "A process that tokenized text died, perhaps for lack of memory. Try again with fewer processes."
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Worker:
    """What a worker process keeps between chunks."""

    tokenizer: Tokenizer
    language: str

    @classmethod
    def start(cls, tokenizer: Tokenizer, language: str) -> None:
        cls.tokenizer, cls.language = tokenizer, language

    @classmethod
    def work(cls, texts: list[Document]) -> tuple[list[TokenizedDocument], Counts]:
        return _tokenize_chunk(texts, cls.tokenizer, cls.language)


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    size = 0
    for document in documents:
        chunk.append(document)
        size += len(document.text)
        if size >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _tokenize_chunk(
    texts: list[Document], tokenizer: Tokenizer, language: str
) -> tuple[list[TokenizedDocument], Counts]:
    counts = Counts()
    documents = [_tokenize_document(text, tokenizer, language, counts) for text in texts]
    return [document for document in documents if document is not None], counts


def _tokenize_document(
    document: Document, tokenizer: Tokenizer, language: str, counts: Counts
) -> TokenizedDocument | None:
    try:
        paragraphs = [split_sentences(line, language) for line in document.text.split("\n") if line.strip()]
        ids = tokenizer.ids_batch(chain.from_iterable(paragraphs))
    except DataError as error:
        raise DataError(f"{document.source}, line {document.line}: {error}") from None
    lengths = np.array([len(sentence) for sentence in ids], np.int64)
    kept = lengths > 0  # a sentence of control characters has no token
    counts.empty_sentences += int((~kept).sum())
    if not kept.any():
        counts.empty_documents += 1
        return None
    tokens = np.concatenate(ids)
    sentences = int(kept.sum())
    counts.documents += 1
    counts.sentences += sentences
    counts.tokens += len(tokens)
    counts.words += int((~tokenizer.vocabulary.is_continuation[tokens]).sum())
    counts.unknown_words += int((tokens == tokenizer.vocabulary.unk_id).sum())
    counts.single_sentence_documents += sentences == 1
    counts.longest_sentence = max(counts.longest_sentence, int(lengths.max()))
    # Paragraph starts in kept sentences: how many were kept before each paragraph.
    before = np.concatenate(([0], np.cumsum(kept)))
    firsts = np.cumsum([0, *map(len, paragraphs)])[:-1]
    return TokenizedDocument(tokens, lengths[kept], np.unique(before[firsts][before[firsts] < sentences]))
