"""How well a vocabulary fits a text: measured on text that it was not learned from."""

from collections.abc import Iterable
from dataclasses import dataclass

from bertsmith.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextStatistics:
    """Counts over some texts.

    Attributes:
        texts: how many texts.
        characters: their length as written.
        words: basic tokens, words and punctuation marks, which is what WordPiece cuts.
        tokens: what they were cut into.
        unknown_words: words that became [UNK].
        longest: tokens of the longest text.
        too_long: texts that with [CLS] and [SEP] exceed the tokenizer's `max_length`.
    """

    texts: int
    characters: int
    words: int
    tokens: int
    unknown_words: int
    longest: int
    too_long: int

    @property
    def fertility(self) -> float:
        """Tokens per word; 1 is a vocabulary that has every word."""
        return self.tokens / self.words if self.words else 0.0

    @property
    def unknown_rate(self) -> float:
        """Fraction of words that became [UNK]."""
        return self.unknown_words / self.words if self.words else 0.0

    @property
    def characters_per_token(self) -> float:
        """How much text one token carries."""
        return self.characters / self.tokens if self.tokens else 0.0


def measure(tokenizer: Tokenizer, texts: Iterable[str]) -> TextStatistics:
    """Count words, tokens and unknown words of `texts`, read once.

    Raises:
        DataError: a text is not a string, or holds half a surrogate pair.
    """
    vocabulary = tokenizer.vocabulary
    num_texts = characters = words = tokens = unknown = longest = too_long = 0
    for text in texts:
        (ids,) = tokenizer.ids_batch([text])
        num_texts += 1
        characters += len(text)
        words += int((~vocabulary.is_continuation[ids]).sum())  # every word has one first token
        tokens += len(ids)
        unknown += int((ids == vocabulary.unk_id).sum())
        longest = max(longest, len(ids))
        too_long += len(ids) + 2 > tokenizer.max_length
    return TextStatistics(num_texts, characters, words, tokens, unknown, longest, too_long)
