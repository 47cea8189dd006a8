"""More tokens for a vocabulary that a model already knows: those that save most tokens in a text of another domain.

A model trained on one kind of text cuts the words of another into many pieces. New pieces are chosen as AVocaDo chooses
them (Hong et al. 2021, section 3.1), by what they do to the tokenized text and not by how frequent they are; but one
after the other, each measured beside those already chosen, so that a word and its parts are not both taken for the same
saving. The learner of whole vocabularies (`learner.py`) is of no use here: it merges pairs up to a word, and the steps
on the way, which the greedy cutting then never uses, would fill the few places there are.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import combinations

from bertsmith.errors import UsageError, VocabularyError
from bertsmith.progress import Progress, silent
from bertsmith.text.learner import LONGEST_WORD
from bertsmith.text.vocabulary import CONTINUATION, Vocabulary
from bertsmith.text.wordpiece import WordPiece, split_token

_UNUSED = re.compile(r"\[unused\d+\]")

# Only the most promising candidates are measured: so many for each piece that is wanted, and never fewer than that.
_CANDIDATES_EACH = 20
_CANDIDATES_LEAST = 10_000

# While choosing, pieces need no ids of their own: only [UNK] is told from the rest.
_NEW = -1


@dataclass(frozen=True)
class Extension:
    """A vocabulary with new pieces in it. The ids of all other tokens are what they were.

    Attributes:
        vocabulary: the new vocabulary. New pieces stand where [unused0], [unused1] ... stood, the most useful first,
            and the rest at the end.
        pieces: the ids that make up each new piece in the old vocabulary, by its id in the new one. A piece that the
            old one could not spell is one [UNK].
        saved: how many tokens fewer the learning text takes.
    """

    vocabulary: Vocabulary
    pieces: Mapping[int, tuple[int, ...]]
    saved: int

    @property
    def tokens(self) -> list[str]:
        """The new pieces, by id."""
        return [self.vocabulary.tokens[index] for index in sorted(self.pieces)]


def extend_vocabulary(
    word_counts: Mapping[str, int],
    vocabulary: Vocabulary,
    add: int,
    *,
    min_frequency: int = 2,
    progress: Progress = silent,
) -> Extension:
    """Add `add` pieces to `vocabulary`: words, and parts of words, that now take several tokens.

    Candidates are all runs of old tokens within words, whole words among them, and for words that are [UNK] the word and
    each character that is missing. The one that saves most tokens is taken, then the one that saves most beside it, and
    so on. A word that is [UNK] counts as two tokens for each character: to lose a word is worse than to spell it out, and
    a character that many lost words have in common is worth more than one of the words. The result depends on nothing
    but the counts and the numbers.

    A text without a new piece in its encoding is encoded as before. No word becomes [UNK] that was not, provided that
    every character inside the old tokens has a continuation token of its own, as in all vocabularies that Google
    published or `learn_vocabulary` makes.

    Args:
        word_counts: how often each word occurs, as `count_words` returns it for the tokenizer's rules.
        vocabulary: the tokens that the model knows.
        add: how many new pieces.
        min_frequency: words that occur more rarely teach nothing.
        progress: hears "learning pieces" in pieces.

    Raises:
        UsageError: `add` or `min_frequency` is below 1.
        VocabularyError: so many pieces cannot save anything in this text; the message gives the number that can.
    """
    if add < 1 or min_frequency < 1:
        raise UsageError(f"add is {add} (at least 1), min_frequency {min_frequency} (at least 1)")
    words = {
        word: word_counts[word]
        for word in sorted(word_counts)
        if word_counts[word] >= min_frequency and 0 < len(word) <= LONGEST_WORD
    }
    chooser = _Chooser(words, vocabulary, max(_CANDIDATES_LEAST, _CANDIDATES_EACH * add))
    chosen: list[str] = []
    saved = 0
    while len(chosen) < add:
        best = chooser.take_best()
        if best is None:
            raise VocabularyError(
                f"{add:,} more tokens are more than this text supports: only {len(chosen):,} of them would save anything "
                f"in it (min_frequency is {min_frequency}). Ask for {len(chosen):,} at most or give it more text."
            )
        token, gain = best
        chosen.append(token)
        saved += gain
        if len(chosen) % 10 == 0:
            progress("learning pieces", len(chosen), add)
    progress("learning pieces", add, add)
    return _placed(vocabulary, chosen, saved)


def _placed(vocabulary: Vocabulary, chosen: list[str], saved: int) -> Extension:
    """`chosen` at the places of the unused tokens, then at the end."""
    old = WordPiece(vocabulary, LONGEST_WORD)
    tokens = list(vocabulary.tokens)
    free = [index for index, token in enumerate(tokens) if _UNUSED.fullmatch(token)]
    places = (free + list(range(len(tokens), len(tokens) + len(chosen))))[: len(chosen)]
    pieces: dict[int, tuple[int, ...]] = {}
    for place, token in zip(places, chosen, strict=True):
        tokens[place : place + 1] = [token]
        text, continues = split_token(token)
        pieces[place] = tuple(piece.id for piece in old.pieces(text, continues=continues))
    return Extension(Vocabulary(tuple(tokens)), pieces, saved)


class _Chooser:
    """The words, the pieces chosen so far, and a heap of candidates with what each may save at most.

    What a candidate saves mostly shrinks while others are chosen, so it is measured only when it comes to the top, and
    goes back if it is no longer the best ("lazy greedy", Minoux 1978).
    """

    def __init__(self, words: Mapping[str, int], vocabulary: Vocabulary, most: int) -> None:
        self._words = words
        self._wordpiece = WordPiece(vocabulary, LONGEST_WORD)
        self._unknown = vocabulary.unk_id
        bounds: Counter[str] = Counter()
        for word, count in words.items():
            for token, bound in self._candidates(word):
                bounds[token] += count * bound
        best = sorted(bounds, key=lambda token: (-bounds[token], token))[:most]
        self._heap = [(-bounds[token], token) for token in best]
        heapify(self._heap)
        self._places: defaultdict[str, list[str]] = defaultdict(list)
        kept = set(best)
        for word in words:
            for token, _ in self._candidates(word):
                if token in kept and self._places[token][-1:] != [word]:
                    self._places[token].append(word)

    def take_best(self) -> tuple[str, int] | None:
        """The piece that saves most tokens, and how many; from now on it is known. None if none saves any."""
        while self._heap:
            _, token = heappop(self._heap)
            gain = self._gain(token)
            if gain > 0 and self._heap and (-gain, token) > self._heap[0]:
                heappush(self._heap, (-gain, token))
            elif gain > 0:
                self._wordpiece.learn(token, _NEW)
                return token, gain
        return None

    def _gain(self, token: str) -> int:
        words = self._places[token]
        before = [self._cost(word) for word in words]
        self._wordpiece.learn(token, _NEW)
        after = [self._cost(word) for word in words]
        self._wordpiece.forget(token)
        return sum(self._words[word] * (b - a) for word, b, a in zip(words, before, after, strict=True))

    def _cost(self, word: str) -> int:
        pieces = self._wordpiece.pieces(word)
        return 2 * len(word) if pieces[0].id == self._unknown else len(pieces)

    def _candidates(self, word: str) -> Iterator[tuple[str, int]]:
        """Pieces that could help with `word`, and how many tokens each would save in it at most."""
        pieces = self._wordpiece.pieces(word)
        if pieces[0].id == self._unknown:
            yield word, 2 * len(word)
            for place, character in enumerate(word if len(word) > 1 else ""):
                token = CONTINUATION + character if place else character
                if not self._wordpiece.knows(token):
                    yield token, 2 * len(word)
        for (first, left), (last, right) in combinations(enumerate(pieces), 2):
            run = word[left.start : right.end]
            yield (CONTINUATION + run if first else run), last - first
