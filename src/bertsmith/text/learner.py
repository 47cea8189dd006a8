"""Learning a WordPiece vocabulary from word counts."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from bertsmith.errors import UsageError, VocabularyError
from bertsmith.progress import Progress, silent
from bertsmith.text.likelihood import gains
from bertsmith.text.normalization import is_chinese, is_punctuation
from bertsmith.text.vocabulary import CONTINUATION, SPECIAL_TOKENS, Vocabulary

LONGEST_WORD = 100
"""A longer word is [UNK] to Hugging Face's tokenizer: it teaches nothing."""

# Gains that differ by less than this part of their largest term are equal, and the pair's text decides: the rounding of
# logarithms differs between machines, the vocabulary must not.
_TOLERANCE = 1e-9

Pair = tuple[int, int]


def learn_vocabulary(
    word_counts: Mapping[str, int],
    size: int,
    *,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    unused: int = 0,
    alphabet_limit: int = 1000,
    min_frequency: int = 2,
    progress: Progress = silent,
) -> Vocabulary:
    """Learn a vocabulary of exactly `size` tokens.

    Words start as characters. Each step merges the pair of neighbouring tokens whose merging raises the log-likelihood
    of the corpus most (`likelihood.py` has the formula), everywhere at once, until the vocabulary is full. Equal gains
    are decided by the pair's text, so the result depends on nothing but the counts and the numbers given here.

    The ids are those of the special tokens, [unused0] and so on, the alphabet sorted, then merges in order.

    Args:
        word_counts: how often each word occurs, as `count_words` returns it.
        size: tokens in all.
        special_tokens: what comes first; the five that BERT needs must be among them.
        unused: how many tokens [unused0], [unused1] ... to reserve.
        alphabet_limit: keep that many characters, the most frequent; words with another one are [UNK]. A kept character
            is in the vocabulary as the start of a word and as its continuation, except that punctuation marks and
            Chinese characters, which stand alone, need no continuation.
        min_frequency: pairs that occur more rarely are not merged.
        progress: hears "learning vocabulary" in tokens.

    Raises:
        UsageError: `alphabet_limit`, `min_frequency` or `unused` is out of range.
        VocabularyError: there are no words, or `size` is too small for the alphabet, or larger than the corpus
            supports; the message gives the least or the largest size that is possible.
    """
    if alphabet_limit < 1 or min_frequency < 1 or unused < 0:
        raise UsageError(
            f"alphabet_limit is {alphabet_limit} (at least 1), min_frequency {min_frequency} (at least 1), "
            f"unused {unused} (at least 0)"
        )
    words = {word: word_counts[word] for word in sorted(word_counts) if word and len(word) <= LONGEST_WORD}
    if not words:
        raise VocabularyError("there are no words to learn a vocabulary from: the text is empty. Give it some text.")
    reserved = [*special_tokens, *(f"[unused{number}]" for number in range(unused))]
    alphabet = _alphabet(words, alphabet_limit)
    least = len(reserved) + len(alphabet)
    if size < least:
        raise VocabularyError(
            f"a vocabulary of {size:,} tokens has no room for the {len(alphabet):,} of the alphabet and the "
            f"{len(reserved):,} reserved ones. Ask for {least:,} at least, or lower alphabet_limit "
            f"({alphabet_limit:,})."
        )
    learner = _Learner(words, alphabet, min_frequency)
    wanted = size - len(reserved)
    while len(learner.tokens) < wanted:
        if not learner.merge_best():
            largest = len(reserved) + len(learner.tokens)
            raise VocabularyError(
                f"a vocabulary of {size:,} tokens is larger than this text supports: at most {largest:,} "
                f"(min_frequency is {min_frequency}). Ask for fewer tokens or give it more text."
            )
        if len(learner.tokens) % 100 == 0:
            progress("learning vocabulary", len(reserved) + len(learner.tokens), size)
    progress("learning vocabulary", size, size)
    return Vocabulary((*reserved, *learner.tokens))


def _alphabet(words: Mapping[str, int], limit: int) -> list[str]:
    """The tokens of one character: all starts of words, then all continuations, each sorted."""
    counts: Counter[str] = Counter()
    continued: set[str] = set()
    for word, count in words.items():
        for character in word:
            counts[character] += count
        continued.update(word[1:])
    kept = sorted(sorted(counts, key=lambda character: (-counts[character], character))[:limit])
    return kept + [
        CONTINUATION + character
        for character in kept
        if character in continued or not (is_punctuation(character) or is_chinese(character))
    ]


class _Learner:
    """The corpus as words cut into tokens, and a table of all pairs of neighbouring tokens.

    Most of a step's work is a scan of the table's columns, and of the words that hold the merged pair. A word is
    touched at most as often as it has characters, so the words cost the same for any size of vocabulary.
    """

    def __init__(self, words: Mapping[str, int], alphabet: list[str], min_frequency: int) -> None:
        self.tokens = list(alphabet)
        ids = {token: index for index, token in enumerate(self.tokens)}
        self._min_frequency = min_frequency
        self._words: list[list[int]] = []
        self._word_counts: list[int] = []
        for word, count in words.items():
            tokens = [word[0], *(CONTINUATION + character for character in word[1:])]
            if all(token in ids for token in tokens):
                self._words.append([ids[token] for token in tokens])
                self._word_counts.append(count)

        self._token_counts = np.zeros(1024, dtype=np.int64)
        self._places: defaultdict[Pair, list[int]] = defaultdict(list)  # words that hold a pair, or once did
        changes: defaultdict[Pair, int] = defaultdict(int)
        self._grow_tokens()
        for place, (word, count) in enumerate(zip(self._words, self._word_counts, strict=True)):
            for token in word:
                self._token_counts[token] += count
            self._note(place, word, count, changes)
        self._total = int(self._token_counts.sum())

        self._rows: dict[Pair, int] = {}
        self._free: list[int] = []
        self._left = np.zeros(0, dtype=np.int32)
        self._right = np.zeros(0, dtype=np.int32)
        self._pair_counts = np.zeros(0, dtype=np.int64)
        self._bounds = np.zeros(0, dtype=np.float64)  # the gain, or more: what it was at some larger N
        self._rescore(self._change_rows(changes))

    def merge_best(self) -> bool:
        """Merge the best pair everywhere. False if there is none."""
        pair = self._best()
        if pair is None:
            return False
        left, right = pair
        merged = len(self.tokens)
        self.tokens.append(self.tokens[left] + self.tokens[right].removeprefix(CONTINUATION))
        self._grow_tokens()
        changes: defaultdict[Pair, int] = defaultdict(int)
        count = 0
        for place in self._places.pop(pair):
            word = self._words[place]
            shorter = _merge(word, pair, merged)
            if len(shorter) < len(word):  # else a merge before this one took the pair away
                occurrences = self._word_counts[place]
                for other in _pairs(word):
                    changes[other] -= occurrences
                self._note(place, shorter, occurrences, changes)
                self._words[place] = shorter
                count += occurrences * (len(word) - len(shorter))
        self._token_counts[left] -= count
        self._token_counts[right] -= count
        self._token_counts[merged] += count
        self._total -= count
        touched = self._change_rows(changes)
        self._rescore(np.union1d(touched, self._rows_with(left, right)))
        return True

    def _note(self, place: int, word: list[int], count: int, changes: defaultdict[Pair, int]) -> None:
        for pair in _pairs(word):
            changes[pair] += count
            self._places[pair].append(place)

    def _best(self) -> Pair | None:
        """The pair of the largest gain."""
        if not len(self._bounds):
            return None
        first = int(np.argmax(self._bounds))
        if self._bounds[first] == -np.inf:
            return None
        # N only shrinks, and gains with it: a bound is never too low, so only rows whose bound reaches the gain of this
        # one can be better. Their bounds become exact on the way.
        self._rescore(np.array([first]))
        tolerance = _TOLERANCE * float(self._pair_counts[first]) * max(1.0, np.log(self._total))
        near = np.flatnonzero(self._bounds >= self._bounds[first] - tolerance)
        self._rescore(near)
        best = near[self._bounds[near] >= self._bounds[near].max() - tolerance]
        row = min(best, key=lambda row: (self.tokens[self._left[row]], self.tokens[self._right[row]]))
        return int(self._left[row]), int(self._right[row])

    def _rescore(self, rows: np.ndarray) -> None:
        """Make the bounds of `rows` exact."""
        left, right, counts = self._left[rows], self._right[rows], self._pair_counts[rows]
        with np.errstate(divide="ignore", invalid="ignore"):  # rows of count 0, overwritten in the next line
            exact = gains(counts, self._token_counts[left], self._token_counts[right], self._total, left == right)
        self._bounds[rows] = np.where(counts >= self._min_frequency, exact, -np.inf)

    def _rows_with(self, *tokens: int) -> np.ndarray:
        """Rows of pairs with one of `tokens`, whose counts have changed."""
        found = np.zeros(len(self._left), dtype=np.bool_)
        for token in set(tokens):
            found |= (self._left == token) | (self._right == token)
        return np.flatnonzero(found)

    def _change_rows(self, changes: Mapping[Pair, int]) -> np.ndarray:
        """Add `changes` to the pairs' counts; return the rows that changed. Pairs that are gone leave their rows."""
        touched: list[int] = []
        for pair, change in changes.items():
            if change == 0:
                continue
            row = self._rows.get(pair)
            if row is None:
                row = self._add_row(pair)
            self._pair_counts[row] += change
            if self._pair_counts[row] == 0:
                del self._rows[pair]
                self._places.pop(pair, None)
                self._left[row] = self._right[row] = -1
                self._free.append(row)
            touched.append(row)
        return np.array(touched, dtype=np.int64)

    def _add_row(self, pair: Pair) -> int:
        if not self._free:
            self._grow_rows()
        row = self._rows[pair] = self._free.pop()
        self._left[row], self._right[row] = pair
        return row

    def _grow_tokens(self) -> None:
        while len(self._token_counts) < len(self.tokens):
            self._token_counts = np.append(self._token_counts, np.zeros_like(self._token_counts))

    def _grow_rows(self) -> None:
        old = len(self._left)
        new = max(1024, old)
        empty = np.full(new, -1, dtype=np.int32)
        self._left, self._right = np.append(self._left, empty), np.append(self._right, empty)
        self._pair_counts = np.append(self._pair_counts, np.zeros(new, dtype=np.int64))
        self._bounds = np.append(self._bounds, np.full(new, -np.inf))
        self._free.extend(range(old + new - 1, old - 1, -1))


def _pairs(word: list[int]) -> Iterator[Pair]:
    """Pairs of neighbours that could be merged: of "aaa" only the first (a, a), since the second overlaps it."""
    taken = False  # whether the left one of this pair is the right one of an equal pair
    for pair in pairwise(word):
        taken = pair[0] == pair[1] and not taken
        if taken or pair[0] != pair[1]:
            yield pair


def _merge(word: list[int], pair: Pair, merged: int) -> list[int]:
    """`word` with each occurrence of `pair`, from left to right, written as `merged`."""
    left, right = pair
    shorter: list[int] = []
    position = 0
    while position < len(word):
        if word[position] == left and position + 1 < len(word) and word[position + 1] == right:
            shorter.append(merged)
            position += 2
        else:
            shorter.append(word[position])
            position += 1
    return shorter
