"""WordPiece: a word cut into the longest pieces that the vocabulary has, from left to right."""

from typing import NamedTuple

from bertsmith.text.vocabulary import CONTINUATION, Vocabulary


def split_token(token: str) -> tuple[str, bool]:
    """The characters that a token stands for, and whether it continues a word."""
    if token.startswith(CONTINUATION) and token != CONTINUATION:
        return token.removeprefix(CONTINUATION), True
    return token, False


class Piece(NamedTuple):
    """One token of a word: its id, and the characters of the word from `start` to before `end`."""

    id: int
    start: int
    end: int


class WordPiece:
    """Greedy longest-match-first cutting (google-research/bert, tokenization.py, `WordpieceTokenizer`)."""

    def __init__(self, vocabulary: Vocabulary, max_word_length: int) -> None:
        """Make ready for `vocabulary`; a word of more than `max_word_length` characters is [UNK]."""
        self._unknown = vocabulary.unk_id
        self._max_word_length = max_word_length
        self._first: dict[str, int] = {}
        self._next: dict[str, int] = {}
        self._longest = 0
        for token, index in vocabulary.ids.items():
            self.learn(token, index)

    def learn(self, token: str, index: int) -> None:
        """Know `token` from now on, under the id `index`."""
        text, continues = split_token(token)
        (self._next if continues else self._first)[text] = index
        self._longest = max(self._longest, len(text))

    def forget(self, token: str) -> None:
        """Know `token` no longer."""
        text, continues = split_token(token)
        del (self._next if continues else self._first)[text]

    def knows(self, token: str) -> bool:
        """Whether `token` is one of those that words are cut into."""
        text, continues = split_token(token)
        return text in (self._next if continues else self._first)

    def pieces(self, word: str, *, continues: bool = False) -> list[Piece]:
        """The pieces of `word`; one [UNK] over all of it if any part has no match, or if it is too long.

        With `continues`, `word` is the rest of a word, so that already its first piece is a continuation.
        """
        whole = [Piece(self._unknown, 0, len(word))]
        if len(word) > self._max_word_length:
            return whole
        found: list[Piece] = []
        start = 0
        known = self._next if continues else self._first
        while start < len(word):
            end = min(len(word), start + self._longest)
            while end > start and word[start:end] not in known:
                end -= 1
            if end == start:
                return whole
            found.append(Piece(known[word[start:end]], start, end))
            start, known = end, self._next
        return found
