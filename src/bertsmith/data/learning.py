"""From text files to a tokenizer with a vocabulary of its own, or with more tokens than it had."""

from collections.abc import Iterator
from dataclasses import dataclass

from bertsmith.data.corpora import Corpus, Paths
from bertsmith.errors import UsageError
from bertsmith.progress import Progress, silent
from bertsmith.text import (
    Extension,
    TextStatistics,
    Tokenizer,
    count_words,
    extend_vocabulary,
    learn_vocabulary,
    measure,
)

_MOST_HELDOUT = 20_000_000  # characters kept for measuring, so that memory does not grow with the corpus


@dataclass(frozen=True)
class LearnedTokenizer:
    """A new tokenizer, and how it fits text.

    `statistics` were measured on documents that the vocabulary was not learned from; where the corpus had too few
    documents to keep one apart, `heldout` is False and they were measured on the last document, which was learned from.
    """

    tokenizer: Tokenizer
    distinct_words: int
    statistics: TextStatistics
    heldout: bool


def learn_tokenizer(
    corpus: Corpus | Paths,
    size: int,
    *,
    lower_case: bool = True,
    behaviour: str = "hf",
    heldout: float = 0.02,
    min_frequency: int = 2,
    processes: int = 1,
    progress: Progress = silent,
) -> LearnedTokenizer:
    """Learn a WordPiece vocabulary of exactly `size` tokens from a corpus.

    Args:
        corpus: files or folders; a `Corpus` where their format must be told.
        size: tokens in all, the five special ones included.
        lower_case: uncased, which also strips accents; False for cased.
        behaviour: "hf" or "google", see `bertsmith.text.Tokenizer`.
        heldout: share of documents (every k-th) that the vocabulary is not learned from but measured on.
        min_frequency: pairs that occur more rarely are not merged.
        processes: how many count words; the result is the same for any number.
        progress: hears the phases of the work.

    Raises:
        UsageError: an option is out of range.
        DataError: the text cannot be used.
        VocabularyError: `size` does not fit the corpus; the message gives a size that does.
    """
    split = _Split(corpus, heldout)
    counts = count_words(split.to_learn_from(), lower_case=lower_case, processes=processes, progress=progress)
    vocabulary = learn_vocabulary(counts, size, min_frequency=min_frequency, progress=progress)
    tokenizer = Tokenizer(vocabulary, lower_case=lower_case, behaviour=behaviour)  # pyright: ignore[reportArgumentType]
    return LearnedTokenizer(tokenizer, len(counts), measure(tokenizer, split.to_measure_on), heldout=split.apart)


@dataclass(frozen=True)
class ExtendedTokenizer:
    """A tokenizer with more tokens than it had, and how it fits text, `before` and after (`statistics`).

    Both were measured on documents that nothing was learned from; see `LearnedTokenizer` for `heldout`.
    """

    tokenizer: Tokenizer
    extension: Extension
    distinct_words: int
    before: TextStatistics
    statistics: TextStatistics
    heldout: bool


def extend_tokenizer(
    tokenizer: Tokenizer,
    corpus: Corpus | Paths,
    add: int,
    *,
    heldout: float = 0.02,
    min_frequency: int = 2,
    processes: int = 1,
    progress: Progress = silent,
) -> ExtendedTokenizer:
    """Learn `add` more tokens for a tokenizer from a corpus of another domain; see `bertsmith.text.extend_vocabulary`.

    Args:
        tokenizer: what a model was trained with.
        corpus: files or folders; a `Corpus` where their format must be told.
        add: how many tokens.
        heldout: share of documents (every k-th) that nothing is learned from but measured on.
        min_frequency: words that occur more rarely teach nothing.
        processes: how many count words; the result is the same for any number.
        progress: hears the phases of the work.

    Raises:
        UsageError: an option is out of range.
        DataError: the text cannot be used.
        VocabularyError: the corpus does not support so many tokens; the message gives a number that it does.
    """
    split = _Split(corpus, heldout)
    counts = count_words(
        split.to_learn_from(),
        lower_case=tokenizer.rules.lower_case,
        strip_accents=tokenizer.rules.strip_accents,
        split_chinese=tokenizer.rules.split_chinese,
        processes=processes,
        progress=progress,
    )
    extension = extend_vocabulary(counts, tokenizer.vocabulary, add, min_frequency=min_frequency, progress=progress)
    extended = tokenizer.with_vocabulary(extension.vocabulary)
    before, after = (measure(one, split.to_measure_on) for one in (tokenizer, extended))
    return ExtendedTokenizer(extended, extension, len(counts), before, after, heldout=split.apart)


class _Split:
    """A corpus with every k-th document apart, which is read once."""

    def __init__(self, corpus: Corpus | Paths, heldout: float) -> None:
        if not 0 < heldout <= 0.5:
            raise UsageError(f"heldout {heldout}: expected a share above 0 and up to 0.5")
        self._corpus = corpus if isinstance(corpus, Corpus) else Corpus(corpus)
        self._every = round(1 / heldout)
        self._apart: list[str] = []
        self._last = ""

    def to_learn_from(self) -> Iterator[str]:
        """All documents but those apart, in order."""
        kept = 0
        for number, document in enumerate(self._corpus.documents(), start=1):
            self._last = document.text
            if number % self._every == 0 and kept < _MOST_HELDOUT:
                self._apart.append(document.text)
                kept += len(document.text)
            else:
                yield document.text

    @property
    def apart(self) -> bool:
        """Whether any document is apart."""
        return bool(self._apart)

    @property
    def to_measure_on(self) -> list[str]:
        """The documents apart; the last of all where there is none."""
        return self._apart or [self._last]
