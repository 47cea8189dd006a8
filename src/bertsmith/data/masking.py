"""Masking policies: what is chosen together, times what it becomes. Every policy ends in `labels`.

A masked language model sees a text with some tokens hidden and is asked for the hidden ones. A policy has two halves:

    choice     which positions are to be predicted: single tokens, whole words, ...
    change     what the encoder sees there: [MASK], a random token, or the token itself (80, 10 and 10 of 100)

Nothing is stored: the mask is drawn when an example is, from a generator that belongs to the example. So the same text
is hidden differently in each epoch, where the original wrote ten masked copies of the corpus to disk.
"""

from abc import abstractmethod
from dataclasses import dataclass, field, replace

import numpy as np

from bertsmith.config import Part, require
from bertsmith.data.example import IGNORE_INDEX, Example
from bertsmith.text import Vocabulary


@dataclass(frozen=True)
class Choice(Part):
    """Plug point: which positions of a sequence are predicted."""

    @abstractmethod
    def choose(self, ids: np.ndarray, vocabulary: Vocabulary, count: int, rng: np.random.Generator) -> np.ndarray:
        """Positions to predict: at most `count` indices into `ids` `(seq,)`, in any order, none of a special token."""


@dataclass(frozen=True)
class SingleTokens(Choice, kind="single_tokens"):
    """Choose token by token, as the first BERT did.

    Inputs: `input_ids`. Special tokens are never chosen, [UNK] among them: there is nothing to learn from its spelling.
    Labels: the token's own id.
    Relations: `WholeWords` chooses all tokens of a word together.
    Reference: Devlin et al. 2019, section 3.1, task 1.
    """

    def choose(self, ids: np.ndarray, vocabulary: Vocabulary, count: int, rng: np.random.Generator) -> np.ndarray:
        """Every set of `count` ordinary tokens is equally likely."""
        candidates = np.flatnonzero(~vocabulary.is_special[ids])
        # The first few of a shuffled list: a draw without replacement, so no position is predicted twice.
        return rng.permutation(candidates)[:count]


@dataclass(frozen=True)
class WholeWords(Choice, kind="whole_words"):
    """Choose whole words: all tokens of a word are predicted together, or none.

    Inputs: `input_ids`; a word is a token with the `##` tokens behind it. Special tokens are never chosen.
    Labels: unchanged; each token is still predicted on its own.
    Relations: `SingleTokens` chooses token by token. The number of tokens chosen is the same or a little smaller.
    Reference: google-research/bert, README of 31 May 2019 and `create_masked_lm_predictions`.
    """

    def choose(self, ids: np.ndarray, vocabulary: Vocabulary, count: int, rng: np.random.Generator) -> np.ndarray:
        """Words in random order, as long as they fit; one that would overflow `count` is passed over."""
        heads, ends = _words(ids, vocabulary)
        chosen: list[int] = []
        for word in rng.permutation(len(heads)).tolist():
            if len(chosen) >= count:
                break
            start, end = int(heads[word]), int(ends[word])
            # Passing over a long word favours short ones a little at the very end of the budget. The original accepts
            # that to keep the number of predictions under its limit, and we keep it so that the rates are comparable.
            if len(chosen) + end - start <= count:
                chosen.extend(range(start, end))
        return np.array(chosen, dtype=np.int64)


@dataclass(frozen=True)
class Spans(Choice, kind="spans"):
    """Choose runs of whole words, whose insides must be filled in from their ends.

    The number of words in a run is geometric with `p`, cut at `longest` (3.8 words on average), the word that it starts
    with uniform among those not chosen yet. A run ends early at a special token, at one that was chosen before, and where
    the number of tokens is reached.

    Inputs: `input_ids`; a word is a token with the `##` tokens behind it. Special tokens are never chosen.
    Labels: unchanged; each token is still predicted on its own.
    Relations: with `longest` 1 it is `WholeWords`. The paper hides a run as a whole or not at all; here, as for all
        choices, what becomes of a token is drawn for each.
    Reference: Joshi et al. 2020 (SpanBERT), section 3.1.
    """

    p: float = 0.2
    longest: int = 10

    def __post_init__(self) -> None:
        require(0 < self.p < 1, "p", f"expected a share above 0 and below 1, got {self.p}")
        require(self.longest > 0, "longest", f"expected at least 1 word, got {self.longest}")

    def choose(self, ids: np.ndarray, vocabulary: Vocabulary, count: int, rng: np.random.Generator) -> np.ndarray:
        """Runs of words in random order, as long as words fit; one that would overflow `count` ends its run."""
        bounds = [array.tolist() for array in _words(ids, vocabulary)]
        words = list(zip(*bounds, strict=True))
        lengths = self._lengths(len(words), rng)
        chosen: dict[int, range] = {}  # word -> its positions
        left = count
        for first in rng.permutation(len(words)).tolist():
            if not left:
                break
            for word in range(first, min(first + lengths[first], len(words))):
                start, end = words[word]
                apart = word > first and words[word - 1][1] != start
                if apart or word in chosen or end - start > left:
                    break
                chosen[word] = range(start, end)
                left -= end - start
        return np.array([position for positions in chosen.values() for position in positions], dtype=np.int64)

    def _lengths(self, count: int, rng: np.random.Generator) -> list[int]:
        """As many geometric numbers of words, none above `longest`, by inverting the distribution."""
        within = 1 - (1 - self.p) ** self.longest
        drawn = np.log1p(-rng.random(count) * within) / np.log1p(-self.p)
        return np.minimum(drawn.astype(np.int64) + 1, self.longest).tolist()


def _words(ids: np.ndarray, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Where each word starts and ends in `ids`, in order."""
    special = vocabulary.is_special[ids]
    continues = vocabulary.is_continuation[ids]
    # A word starts at an ordinary token that does not continue one, and ends where the next token does not continue
    # it: two boolean arrays, instead of a loop over tokens that would take longer than all the rest.
    #
    # A `##` token behind a special one starts a word: truncation can cut the head off a sequence's first word. (The
    # original would tie it to the last word before the [SEP].)
    after_special = np.concatenate(([True], special[:-1]))
    heads = np.flatnonzero(~special & (after_special | ~continues))
    ends = np.flatnonzero(np.concatenate((special[1:] | ~continues[1:], [True]))) + 1
    ends = ends[np.searchsorted(ends, heads, side="right")]
    return heads, ends


@dataclass(frozen=True)
class Masking:
    """A masking policy: `choice` picks `rate` of the tokens to be predicted, and most of these are hidden.

    Inputs: an example with `input_ids`.
    Labels: the original id at every chosen position, `IGNORE_INDEX` elsewhere.
    Relations: `rate` counts special tokens in the length, as the original does, though they are never chosen. With a
        `final_rate` a stage asks for the policy of each step with `at`.
    Reference: Devlin et al. 2019, section 3.1 and appendix A.1; google-research/bert, create_pretraining_data.py.
    """

    choice: Choice = field(default_factory=SingleTokens)
    # Every hidden token is something to learn from and something missing to learn it with; 15 % was the first balance
    # struck. Larger models and longer runs can afford to hide more.
    rate: float = 0.15
    # Where the rate is to change over a stage, the one it ends at: hiding more is learning faster at first, hiding less is
    # nearer to the text that the encoder is used on (Yang et al. 2023, arXiv 2208.10806; GPT-BERT, arXiv 2410.24159).
    final_rate: float | None = None
    # Of the chosen tokens. What is left over, 10 %, stays as it is and is predicted all the same.
    mask_rate: float = 0.8
    random_rate: float = 0.1

    def __post_init__(self) -> None:
        require(0 < self.rate <= 1, "rate", f"expected a share above 0 and up to 1, got {self.rate}")
        last = self.final_rate
        require(last is None or 0 < last <= 1, "final_rate", f"expected a share above 0 and up to 1, got {last}")
        require(0 <= self.mask_rate <= 1, "mask_rate", f"expected a share from 0 to 1, got {self.mask_rate}")
        left = 1 - self.mask_rate
        require(
            0 <= self.random_rate <= left + 1e-9,
            "random_rate",
            f"expected a share from 0 to 1 - mask_rate = {left:.4g}, got {self.random_rate}",
        )

    def at(self, progress: float) -> "Masking":
        """The policy as it stands at `progress` through a stage, from 0 to 1: the rate goes in a straight line."""
        if self.final_rate is None:
            return self
        return replace(self, rate=self.rate + (self.final_rate - self.rate) * progress, final_rate=None)

    def __call__(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """The example with some tokens hidden and with `labels` `(seq,)` for them. The one given is left as it is."""
        ids = example.tokens["input_ids"]
        # Python's round goes to the even neighbour at a half, as in the original; at least one token is predicted.
        count = max(1, round(len(ids) * self.rate))
        positions = self.choice.choose(ids, vocabulary, count, rng)

        # Only chosen positions have a label. A loss on the visible tokens would reward copying, which is easy.
        labels = np.full(len(ids), IGNORE_INDEX, np.int64)
        labels[positions] = ids[positions]
        return Example(
            {**example.tokens, "input_ids": self._hide(ids, positions, vocabulary, rng), "labels": labels},
            example.targets,
        )

    def _hide(
        self, ids: np.ndarray, positions: np.ndarray, vocabulary: Vocabulary, rng: np.random.Generator
    ) -> np.ndarray:
        hidden = ids.copy()
        # One draw per token, also inside a whole word: "##er" may stay where its head is masked, as in the original.
        # Not all become [MASK], since it never occurs in the text that the encoder is used on later. The encoder cannot
        # tell which visible tokens are to be predicted or are wrong, so it must keep a good state for each of them.
        fate = rng.random(len(positions))
        hidden[positions[fate < self.mask_rate]] = vocabulary.mask_id
        replaced = positions[(fate >= self.mask_rate) & (fate < self.mask_rate + self.random_rate)]
        hidden[replaced] = _ordinary_tokens(len(replaced), vocabulary, rng)
        return hidden


def _ordinary_tokens(count: int, vocabulary: Vocabulary, rng: np.random.Generator) -> np.ndarray:
    """Ids drawn uniformly from all but the special tokens. (The original draws from the whole list, [PAD] included.)"""
    ids = rng.integers(len(vocabulary), size=count)
    # Drawing again those that turned out special leaves the others uniform, and needs no list of what is allowed.
    while (special := np.flatnonzero(vocabulary.is_special[ids])).size:
        ids[special] = rng.integers(len(vocabulary), size=len(special))
    return ids
