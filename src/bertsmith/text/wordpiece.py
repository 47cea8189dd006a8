"""WordPiece: a word cut into the longest pieces that the vocabulary has, from left to right."""

from typing import NamedTuple

from bertsmith.text.vocabulary import CONTINUATION, Vocabulary


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
        self._first = vocabulary.ids
        self._next = {
            token.removeprefix(CONTINUATION): index
            for token, index in vocabulary.ids.items()
            if token.startswith(CONTINUATION)
        }
        self._longest = max(map(len, vocabulary.tokens))

    def pieces(self, word: str) -> list[Piece]:
        """The pieces of `word`; one [UNK] over all of it if any part has no match, or if it is too long."""
        whole = [Piece(self._unknown, 0, len(word))]
        if len(word) > self._max_word_length:
            return whole
        found: list[Piece] = []
        start = 0
        known = self._first
        while start < len(word):
            end = min(len(word), start + self._longest)
            while end > start and word[start:end] not in known:
                end -= 1
            if end == start:
                return whole
            found.append(Piece(known[word[start:end]], start, end))
            start, known = end, self._next
        return found
