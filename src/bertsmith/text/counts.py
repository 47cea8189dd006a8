"""Counting words: all that a vocabulary learner needs to know of a corpus."""

import multiprocessing
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor

from bertsmith.errors import UsageError
from bertsmith.progress import Progress, silent
from bertsmith.text.behaviours import Rules
from bertsmith.text.words import WordCache, check_text, find_words

_CHUNK_CHARACTERS = 4_000_000

# Distinct words as written that may wait to be normalized.
_MAX_WAITING = 500_000


def count_words(
    texts: Iterable[str],
    *,
    lower_case: bool = True,
    strip_accents: bool | None = None,
    split_chinese: bool = True,
    processes: int = 1,
    progress: Progress = silent,
) -> Counter[str]:
    """How often each basic token (word or punctuation mark, normalized) occurs in `texts`.

    Normalization follows the original (`BasicTokenizer`), whatever behaviour the vocabulary will be used with. The
    result is the same for any number of processes; memory grows with the number of distinct words, not with the corpus.

    Args:
        texts: read once, in order.
        lower_case: whether words are lower-cased.
        strip_accents: whether accents are dropped; None: as `lower_case`.
        split_chinese: whether every Chinese character is a word.
        processes: how many processes count; 1: this one. More of them are new interpreters, so a script that asks for
            them guards its main part by `if __name__ == "__main__":`.
        progress: hears "counting words" in characters.

    Raises:
        DataError: one of the texts is not a string, or holds half a surrogate pair.
        UsageError: `processes` is below 1.
    """
    if processes < 1:
        raise UsageError(f"processes is {processes}; at least one process must count")
    basic = Rules(lower_case, strip_accents, split_chinese).basic_tokenizer()
    normalized = WordCache(lambda word: tuple(token.text for token in basic.tokens(word)))
    counts: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    done = 0

    def normalize() -> None:
        for word, count in waiting.items():
            for token in normalized[word]:
                counts[token] += count
        waiting.clear()

    for part, size in _counted(_chunks(texts), processes, split_chinese=split_chinese):
        waiting.update(part)
        if len(waiting) > _MAX_WAITING:
            normalize()
        done += size
        progress("counting words", done, None)
    normalize()
    progress("counting words", done, done)
    return counts


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in lists of a few million characters, so that processes have something to do and memory stays small."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(check_text(text))
        size += len(text)
        if size >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _counted(chunks: Iterator[list[str]], processes: int, *, split_chinese: bool) -> Iterator[tuple[Counter[str], int]]:
    """Words as written and their counts, and the number of characters, of each chunk in order."""
    if processes == 1:
        for chunk in chunks:
            yield _count(chunk, split_chinese=split_chinese)
        return
    # "spawn" is the one method that is safe beside threads and works everywhere.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        running: deque[Future[tuple[Counter[str], int]]] = deque()
        for chunk in chunks:
            running.append(pool.submit(_count, chunk, split_chinese=split_chinese))
            if len(running) > 2 * processes:  # no more text in memory than keeps them busy
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _count(texts: list[str], *, split_chinese: bool) -> tuple[Counter[str], int]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(find_words(text, split_chinese=split_chinese))
    return counts, sum(map(len, texts))
