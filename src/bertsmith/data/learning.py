"""From text files to a tokenizer with a vocabulary of its own."""

from collections.abc import Iterator
from dataclasses import dataclass

from bertsmith.data.corpora import Corpus, Paths
from bertsmith.errors import UsageError
from bertsmith.progress import Progress, silent
from bertsmith.text import TextStatistics, Tokenizer, count_words, learn_vocabulary, measure

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
    if not 0 < heldout <= 0.5:
        raise UsageError(f"heldout {heldout}: expected a share above 0 and up to 0.5")
    if not isinstance(corpus, Corpus):
        corpus = Corpus(corpus)
    apart: list[str] = []
    last: list[str] = [""]

    def texts() -> Iterator[str]:
        every, kept = round(1 / heldout), 0
        for number, document in enumerate(corpus.documents(), start=1):
            last[0] = document.text
            if number % every == 0 and kept < _MOST_HELDOUT:
                apart.append(document.text)
                kept += len(document.text)
            else:
                yield document.text

    counts = count_words(texts(), lower_case=lower_case, processes=processes, progress=progress)
    vocabulary = learn_vocabulary(counts, size, min_frequency=min_frequency, progress=progress)
    tokenizer = Tokenizer(vocabulary, lower_case=lower_case, behaviour=behaviour)  # pyright: ignore[reportArgumentType]
    return LearnedTokenizer(tokenizer, len(counts), measure(tokenizer, apart or last), heldout=bool(apart))
