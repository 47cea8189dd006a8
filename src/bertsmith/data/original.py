"""The original's instances, one for one: what `create_pretraining_data.py` makes of a text, under the same seed.

For comparison with the original, and as a test that its rules are understood; the rules we train by stand in
`instances.py` and `masking.py`, which say where they differ and why. As in the original the whole corpus is in memory,
and every random number is drawn from one `random.Random`, in the original's order. Its numbers are CPython 3's: Python 2
draws and rounds differently.

Reference: Devlin et al. 2018; google-research/bert, create_pretraining_data.py, with whole words as of May 2019.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertsmith.config import require
from bertsmith.data.corpora import Paths, files_of, numbered_lines
from bertsmith.data.example import IGNORE_INDEX, Example
from bertsmith.errors import DataError
from bertsmith.text import Tokenizer, Vocabulary

Sentence = list[int]


@dataclass(frozen=True, kw_only=True)
class Original:
    """The original's flags, by their names and with their defaults."""

    max_seq_length: int = 128
    max_predictions_per_seq: int = 20
    masked_lm_prob: float = 0.15
    short_seq_prob: float = 0.1
    dupe_factor: int = 10
    do_whole_word_mask: bool = False
    random_seed: int = 12345

    def __post_init__(self) -> None:
        require(self.max_seq_length >= 5, "max_seq_length", f"expected at least 5, got {self.max_seq_length}")
        for name in ("max_predictions_per_seq", "dupe_factor"):
            require(getattr(self, name) >= 1, name, f"expected at least 1, got {getattr(self, name)}")

    def instances(self, documents: Sequence[Sequence[Sentence]], vocabulary: Vocabulary) -> list[Example]:
        """The instances of documents, each a list of sentences, each a list of token ids; none is empty.

        An instance has `input_ids` with some tokens hidden, `token_type_ids`, `labels` where tokens are predicted, and
        the target `next_sentence_label` (1 where B is random). They are in the order in which the original writes them;
        with several output files it deals them out in turn.
        """
        rng = random.Random(self.random_seed)
        documents = list(documents)
        rng.shuffle(documents)
        made = [
            self._mask(a, b, label, vocabulary, rng)
            for _ in range(self.dupe_factor)
            for number in range(len(documents))
            for a, b, label in self._pairs(documents, number, rng)
        ]
        rng.shuffle(made)
        return made

    def _pairs(
        self, documents: Sequence[Sequence[Sentence]], number: int, rng: random.Random
    ) -> Iterator[tuple[Sentence, Sentence, int]]:
        """The halves A and B of each pair of a document, and its label: 1 where B is random."""
        longest = self.max_seq_length - 3
        target = rng.randint(2, longest) if rng.random() < self.short_seq_prob else longest
        document = documents[number]
        first, length = 0, 0  # of the piece that is being gathered
        end = 0
        while end < len(document):
            length += len(document[end])
            end += 1
            if end < len(document) and length < target:
                continue
            size = end - first
            a_end = first + (rng.randint(1, size - 1) if size > 1 else 1)
            a = _joined(document[first:a_end])
            is_random = size == 1 or rng.random() < 0.5
            if is_random:
                b = _random_half(documents, number, target - len(a), rng)
                end = a_end  # what would have been B is used later
            else:
                b = _joined(document[a_end:end])
            _truncate(a, b, longest, rng)
            yield a, b, int(is_random)
            first, length = end, 0

    def _mask(self, a: Sentence, b: Sentence, label: int, vocabulary: Vocabulary, rng: random.Random) -> Example:
        """[CLS] A [SEP] B [SEP] with some tokens hidden."""
        cls, sep = vocabulary.cls_id, vocabulary.sep_id
        ids = [cls, *a, sep, *b, sep]
        words: list[list[int]] = []
        for position, token in enumerate(ids):
            if token in (cls, sep):
                continue
            if self.do_whole_word_mask and words and vocabulary.is_continuation[token]:
                words[-1].append(position)  # also over a [SEP], where truncation cut the head off B's first word
            else:
                words.append([position])
        rng.shuffle(words)
        wanted = min(self.max_predictions_per_seq, max(1, round(len(ids) * self.masked_lm_prob)))
        seen, labels, chosen = list(ids), [IGNORE_INDEX] * len(ids), 0
        for word in words:
            if chosen + len(word) > wanted:
                continue
            chosen += len(word)
            for position in word:
                labels[position] = ids[position]
                if rng.random() < 0.8:
                    seen[position] = vocabulary.mask_id
                elif rng.random() >= 0.5:
                    seen[position] = rng.randint(0, len(vocabulary) - 1)  # any token, special ones too
        fields = {
            "input_ids": np.array(seen, np.int64),
            "token_type_ids": np.repeat(np.array([0, 1], np.int64), [len(a) + 2, len(b) + 1]),
            "labels": np.array(labels, np.int64),
        }
        return Example(fields, {"next_sentence_label": label})


def original_instances(paths: Paths, tokenizer: Tokenizer, options: Original = Original()) -> list[Example]:
    """The instances of text files with one sentence a line and a blank line between documents.

    A file's end ends no document, as in the original. The tokens are the original's with a tokenizer of behaviour
    "google".

    Raises:
        DataError: a file cannot be used, or there is no text.
    """
    documents: list[list[Sentence]] = [[]]
    files = files_of(paths)
    for file in files:
        for sentence in _sentences(file, tokenizer):
            if sentence is None:
                documents.append([])
            elif sentence:
                documents[-1].append(sentence)
    documents = [document for document in documents if document]
    if not documents:
        raise DataError(f"There is no text in {', '.join(map(str, files))}.")
    return options.instances(documents, tokenizer.vocabulary)


def features(instance: Example) -> dict[str, list[int]]:
    """An instance as the original stores it, under its names, without the padding and the masks that say where it is."""
    labels = instance.tokens["labels"]
    positions = np.flatnonzero(labels != IGNORE_INDEX)
    return {
        "input_ids": instance.tokens["input_ids"].tolist(),
        "segment_ids": instance.tokens["token_type_ids"].tolist(),
        "masked_lm_positions": positions.tolist(),
        "masked_lm_ids": labels[positions].tolist(),
        "next_sentence_labels": [int(instance.targets["next_sentence_label"])],
    }


def _sentences(file: Path, tokenizer: Tokenizer) -> Iterator[Sentence | None]:
    """The tokens of each line; None for a blank one."""
    for _, line in numbered_lines(file):
        yield tokenizer.ids_batch([line])[0].tolist() if line.strip() else None


def _joined(sentences: Sequence[Sentence]) -> Sentence:
    return [token for sentence in sentences for token in sentence]


def _random_half(documents: Sequence[Sequence[Sentence]], number: int, wanted: int, rng: random.Random) -> Sentence:
    """Sentences from a random one of a random document on, `wanted` tokens if there are as many, and one sentence at
    least. After ten tries the document may be the same.
    """
    other = number
    for _ in range(10):
        other = rng.randint(0, len(documents) - 1)
        if other != number:
            break
    b: Sentence = []
    for sentence in documents[other][rng.randint(0, len(documents[other]) - 1) :]:
        b.extend(sentence)
        if len(b) >= wanted:
            break
    return b


def _truncate(a: Sentence, b: Sentence, longest: int, rng: random.Random) -> None:
    """Cut the longer half, and B at a tie, at a random end, until both fit."""
    while len(a) + len(b) > longest:
        longer = a if len(a) > len(b) else b
        del longer[0 if rng.random() < 0.5 else -1]
