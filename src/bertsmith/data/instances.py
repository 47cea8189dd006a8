"""Instances: which pieces of the corpus an epoch's examples are made of.

A plan is drawn once per epoch, from sentence lengths alone; no token is read until an example is asked for. It is a
pure function of (shards, length, seed, epoch), so it is never stored: a resumed run draws it again.
"""

from abc import abstractmethod
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from bertsmith.config import Part, require
from bertsmith.data.example import Example
from bertsmith.data.randomness import generator
from bertsmith.data.shards import Shards
from bertsmith.errors import UsageError


class Plan(Protocol):
    """All examples of one epoch, in the order of the corpus; whoever draws from it brings the order of training."""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def example(self, index: int) -> Example:
        """Example `index` (0 .. len - 1), with special tokens, not masked."""
        ...


@dataclass(frozen=True)
class Instances(Part):
    """Plug point: how examples are cut from documents. `gives` names the targets of each."""

    gives: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def plan(self, shards: Shards, length: int, seed: int, epoch: int) -> Plan:
        """The examples of `epoch`, none longer than `length` tokens with its special tokens."""


@dataclass(frozen=True)
class SentencePairs(Instances, kind="sentence_pairs"):
    """Two runs of sentences, `[CLS] A [SEP] B [SEP]`; B follows A in its document, or is random text from another.

    Sentences are gathered until a target length is reached (`length` - 3; at `short_sequence_rate` a uniform one from 2
    up), A ends at a uniform place inside, and B is the rest, or comes from a random sentence of another document; then
    the rest is put back. What is too long loses tokens of the longer half, at random ends. The rules are those of the
    original, except where they defeat their own aim:

    - A piece of one sentence has no rest, so the original always calls it "random": 58 % of its pairs in the end. Here
      the other pieces make up for it: the running surplus of one label lowers its chance, so the labels are balanced
      at `random_next_rate` (unless most pieces are one long sentence).
    - The other document is never the same one, if there are two. (The original gives up after 10 tries.)
    - The target length is drawn once per document and pass. Here a document longer than 16 x `length` draws again after
      each stretch of that size, or a whole novel would now and then be cut into snippets of two tokens.

    Targets: `next_sentence_label`, 0 if B follows A and 1 if it is random.
    Relations: `Segments` makes no pairs, for objectives without a next-sentence task.
    Reference: Devlin et al. 2019, section 3.1, task 2; google-research/bert, `create_instances_from_document`.
    """

    gives: ClassVar[tuple[str, ...]] = ("next_sentence_label",)
    short_sequence_rate: float = 0.1
    random_next_rate: float = 0.5

    def __post_init__(self) -> None:
        for name in ("short_sequence_rate", "random_next_rate"):
            value = getattr(self, name)
            require(0 <= value <= 1, name, f"expected a share from 0 to 1, got {value}")

    def plan(self, shards: Shards, length: int, seed: int, epoch: int) -> "PairPlan":
        """Cut every document into pieces, then draw the random halves and the truncation for all of them at once."""
        if length < 5:
            raise UsageError(f"length {length}: sentence pairs need at least 5 tokens, 3 of them special.")
        rng = generator(seed, "sentence pairs", epoch, 0)
        pieces = self._cut(shards, length, rng)
        bounds = shards.sentence_bounds
        a_start = bounds[pieces.first]
        a_length = bounds[pieces.middle] - a_start
        b_start = bounds[pieces.middle]  # right where B follows A; replaced below where it is random
        b_length = bounds[pieces.end] - b_start

        is_random = pieces.is_random.astype(bool)
        first, end = _random_halves(shards, pieces, np.flatnonzero(is_random), a_length[is_random], rng)
        b_start[is_random] = bounds[first]
        b_length[is_random] = bounds[end] - bounds[first]

        a_cut, b_cut = _truncation(a_length, b_length, length - 3)
        a_front, b_front = rng.binomial(a_cut, 0.5), rng.binomial(b_cut, 0.5)
        return PairPlan(
            shards,
            a_start=a_start + a_front,
            a_length=(a_length - a_cut).astype(np.int32),
            b_start=b_start + b_front,
            b_length=(b_length - b_cut).astype(np.int32),
            is_random=is_random,
        )

    def _cut(self, shards: Shards, length: int, rng: np.random.Generator) -> "_Pieces":
        """Go through all documents once. Python integers and `bisect`: faster here than NumPy on single numbers."""
        longest = length - 3
        uniform = _uniforms(rng).__next__
        first, middle, end, targets = array("q"), array("q"), array("q"), array("i")
        labels, documents = array("b"), array("i")
        surplus = 0.0  # of random pairs over their share so far
        document_bounds, sentence_bounds = shards.document_bounds, shards.sentence_bounds
        for document in range(shards.documents):
            start, stop = int(document_bounds[document]), int(document_bounds[document + 1])
            bounds: list[int] = sentence_bounds[start : stop + 1].tolist()
            last, here, redraw_at, target = stop - start, 0, -1, longest
            while here < last:
                if bounds[here] > redraw_at:
                    redraw_at, target = bounds[here] + 16 * length, longest
                    if uniform() < self.short_sequence_rate:
                        target = 2 + int(uniform() * (longest - 1))
                piece_end = min(bisect_left(bounds, bounds[here] + target, here + 1), last)
                size = piece_end - here
                cut = 1 + int(uniform() * (size - 1)) if size > 1 else 1
                random = size == 1 or uniform() < self.random_next_rate - surplus / 64
                surplus += random - self.random_next_rate
                first.append(start + here)
                middle.append(start + here + cut)
                end.append(start + piece_end)
                targets.append(target)
                labels.append(random)
                documents.append(document)
                here = here + cut if random else piece_end
        return _Pieces(*map(np.asarray, (first, middle, end, targets, labels, documents)))


@dataclass(frozen=True, eq=False)
class PairPlan:
    """A plan of `SentencePairs`: for each pair, where its halves start in the corpus and how long they are."""

    shards: Shards
    a_start: np.ndarray
    a_length: np.ndarray
    b_start: np.ndarray
    b_length: np.ndarray
    is_random: np.ndarray

    def __len__(self) -> int:
        return len(self.a_start)

    def example(self, index: int) -> Example:
        """`[CLS] A [SEP] B [SEP]` with types 0 and 1 and the target `next_sentence_label`."""
        a_length, b_length = int(self.a_length[index]), int(self.b_length[index])
        a_start, b_start = int(self.a_start[index]), int(self.b_start[index])
        ids = np.empty(a_length + b_length + 3, np.int64)
        types = np.zeros(len(ids), np.int64)
        vocabulary = self.shards.vocabulary
        ids[0] = vocabulary.cls_id
        ids[1 : a_length + 1] = self.shards.token_slice(a_start, a_start + a_length)
        ids[a_length + 1] = ids[-1] = vocabulary.sep_id
        ids[a_length + 2 : -1] = self.shards.token_slice(b_start, b_start + b_length)
        types[a_length + 2 :] = 1
        return Example({"input_ids": ids, "token_type_ids": types}, {"next_sentence_label": int(self.is_random[index])})


@dataclass(frozen=True)
class Segments(Instances, kind="segments"):
    """Runs of consecutive sentences of one document, as many as fit: `[CLS] A [SEP]`.

    No token of the corpus is left out: a sentence longer than a run is cut. Where a document does not fit into one run,
    the first one has a random length, so that the cuts lie elsewhere in each epoch.

    Targets: none.
    Relations: `SentencePairs` adds the next-sentence task.
    Reference: Liu et al. 2019 (RoBERTa), section 4.2, DOC-SENTENCES.
    """

    def plan(self, shards: Shards, length: int, seed: int, epoch: int) -> "SegmentPlan":
        """Go through all documents once."""
        if length < 3:
            raise UsageError(f"length {length}: segments need at least 3 tokens, 2 of them special.")
        room = length - 2
        starts, lengths = array("q"), array("i")
        uniform = _uniforms(generator(seed, "segments", epoch, 0)).__next__
        document_bounds, sentence_bounds = shards.document_bounds, shards.sentence_bounds
        for document in range(shards.documents):
            first, end = int(document_bounds[document]), int(document_bounds[document + 1])
            bounds: list[int] = sentence_bounds[first : end + 1].tolist()
            here, last = bounds[0], bounds[-1]
            budget = room if last - here <= room else 1 + int(uniform() * room)
            while here < last:
                # The last sentence end within reach; if there is none, a sentence is too long and is cut.
                reach = bounds[bisect_left(bounds, here + budget + 1) - 1]
                until = reach if reach > here else here + budget
                starts.append(here)
                lengths.append(until - here)
                here, budget = until, room
        return SegmentPlan(shards, np.asarray(starts), np.asarray(lengths))


@dataclass(frozen=True, eq=False)
class SegmentPlan:
    """A plan of `Segments`: where each run starts in the corpus and how long it is."""

    shards: Shards
    starts: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def example(self, index: int) -> Example:
        """`[CLS] A [SEP]`, all of type 0."""
        start, length = int(self.starts[index]), int(self.lengths[index])
        ids = np.empty(length + 2, np.int64)
        ids[0] = self.shards.vocabulary.cls_id
        ids[1:-1] = self.shards.token_slice(start, start + length)
        ids[-1] = self.shards.vocabulary.sep_id
        return Example({"input_ids": ids, "token_type_ids": np.zeros(length + 2, np.int64)})


@dataclass(frozen=True, eq=False)
class _Pieces:
    """For each pair, sentences by number: A is first .. middle, B if not random middle .. end."""

    first: np.ndarray
    middle: np.ndarray
    end: np.ndarray
    target: np.ndarray
    is_random: np.ndarray
    document: np.ndarray


def _uniforms(rng: np.random.Generator) -> Iterator[float]:
    """Numbers from [0, 1), drawn in blocks because a single draw costs a microsecond."""
    while True:
        yield from rng.random(1 << 14).tolist()


def _random_halves(
    shards: Shards, pieces: _Pieces, pairs: np.ndarray, a_length: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """First and end sentence of each random B: a uniform sentence of a uniform other document, on to the target."""
    bounds, document_bounds = shards.sentence_bounds, shards.document_bounds
    if shards.documents > 1:
        document = rng.integers(shards.documents - 1, size=len(pairs))
        document += document >= pieces.document[pairs]
        first = rng.integers(document_bounds[document], document_bounds[document + 1])
    else:
        # One document only: any sentence but the one that really follows.
        document = np.zeros(len(pairs), np.int64)
        follower = pieces.middle[pairs]
        can_skip = follower < shards.sentences
        first = rng.integers(0, np.maximum(1, shards.sentences - can_skip))
        first += can_skip & (first >= follower)
    wanted = np.maximum(pieces.target[pairs] - a_length, 1)  # the original takes one sentence even where A fills it all
    end = np.searchsorted(bounds, bounds[first] + wanted)
    return first, np.minimum(end, document_bounds[document + 1])


def _truncation(a_length: np.ndarray, b_length: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """How many tokens A and B lose if, while they are too long, the longer loses one, and B at a tie."""
    excess = np.maximum(a_length + b_length - longest, 0)
    uneven = np.minimum(np.abs(a_length - b_length), excess)  # the longer half loses these alone
    shared = excess - uneven  # then both in turn, B first
    a_cut = np.where(a_length > b_length, uneven, 0) + shared // 2
    return a_cut, excess - a_cut
