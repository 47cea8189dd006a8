"""BERT's tokenizer: text to tokens and back."""

from collections.abc import Iterable, Sequence
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertsmith.errors import UsageError, VocabularyError, nearest
from bertsmith.text import folder
from bertsmith.text.behaviours import BEHAVIOURS, Behaviour, BehaviourName, Pieces, Rules
from bertsmith.text.encoding import Encoding
from bertsmith.text.vocabulary import CONTINUATION, Vocabulary
from bertsmith.text.words import WordCache, check_text, find_spans, find_words

# From this many characters on, a text that will be truncated is first cut after the words that are needed.
_LONG_TEXT = 20_000


class Tokenizer:
    """Text to tokens and back, in one of two behaviours.

    "hf" gives the ids of Hugging Face's `tokenizers` library, "google" those of the original code.

    Attributes:
        vocabulary: the tokens by id.
        rules: casing, accents, Chinese characters.
        behaviour: "hf" or "google".
        max_length: the longest input of the model that it belongs to, in tokens. It is stored beside the model and
            applied only where a caller passes it on: `encode(text, max_length=tokenizer.max_length)`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        lower_case: bool = True,
        behaviour: BehaviourName = "hf",
        strip_accents: bool | None = None,
        split_chinese: bool = True,
        max_length: int = 512,
    ) -> None:
        """Make a tokenizer.

        Args:
            vocabulary: the tokens by id.
            lower_case: whether text is lower-cased, for an "uncased" model.
            behaviour: "hf" or "google".
            strip_accents: whether accents are dropped; None: as `lower_case`.
            split_chinese: whether every Chinese character is a word.
            max_length: the longest input of the model, in tokens.

        Raises:
            UsageError: there is no such behaviour, or `max_length` is below 1.
        """
        if behaviour not in BEHAVIOURS:
            raise UsageError(f"no tokenizer behaviour is called {behaviour!r}.{nearest(str(behaviour), BEHAVIOURS)}")
        if max_length < 1:
            raise UsageError(f"max_length is {max_length}; a model takes at least one token")
        self.vocabulary = vocabulary
        self.rules = Rules(lower_case, strip_accents, split_chinese)
        self.max_length = max_length
        self._behaviour: Behaviour = BEHAVIOURS[behaviour](vocabulary, self.rules)
        self._ids = WordCache(self._behaviour.ids)

    @classmethod
    def load(cls, path: str | Path, *, behaviour: BehaviourName | None = None) -> "Tokenizer":
        """Read the tokenizer of a model folder, ours or another's, or a bare `vocab.txt`.

        Casing is taken from tokenizer_config.json, else from tokenizer.json, else text is lower-cased, as Hugging Face
        does. `behaviour` overrides the folder's; a folder that names none is read as "hf".

        Raises:
            VocabularyError: there is no tokenizer, it is damaged, or it is not BERT's.
        """
        vocabulary, settings = folder.read(Path(path))
        return cls(
            vocabulary,
            lower_case=settings.rules.lower_case,
            behaviour=behaviour or settings.behaviour,
            strip_accents=settings.rules.strip_accents,
            split_chinese=settings.rules.split_chinese,
            max_length=settings.max_length,
        )

    def save(self, path: str | Path, *, inputs: Sequence[str] | None = None) -> None:
        """Write vocab.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json into the folder `path`.

        `inputs` are what the model takes of input_ids, token_type_ids and attention_mask, if not all.

        transformers 4 and 5 load it. They know one behaviour, "hf": what a "google" tokenizer does otherwise is lost
        on them.
        """
        settings = folder.Settings(self.rules, self.behaviour, self.max_length)
        folder.write(Path(path), self.vocabulary, settings, self._behaviour.max_word_length, inputs)

    @property
    def behaviour(self) -> BehaviourName:
        """ "hf" or "google"."""
        return self._behaviour.name

    @property
    def sha256(self) -> str:
        """Fingerprint of all that decides ids: vocabulary, rules and behaviour; hexadecimal."""
        rules = (self.rules.lower_case, self.rules.strips_accents, self.rules.split_chinese)
        return sha256(f"{self.vocabulary.sha256} {rules} {self.behaviour}".encode()).hexdigest()

    def encode(
        self, text: str, pair: str | None = None, *, special_tokens: bool = False, max_length: int | None = None
    ) -> Encoding:
        """The tokens of `text`, or of `text` and `pair`.

        Args:
            text: any text; the empty text has no tokens.
            pair: a second text, whose tokens have the type 1.
            special_tokens: whether to add them: [CLS] text [SEP], and pair [SEP].
            max_length: tokens to keep at most, special ones included; None: all. A pair is cut one token at a time from
                the end of the longer text, of `pair` where both are as long (run_classifier.py, `_truncate_seq_pair`).
                What was cut is counted in `Encoding.truncated`.

        Raises:
            DataError: a text is not a string, or holds half a surrogate pair.
            UsageError: `max_length` leaves no room for the special tokens.
        """
        texts = (text,) if pair is None else (text, pair)
        room = None if max_length is None else self._room(max_length, len(texts) + 1 if special_tokens else 0)
        pieces = [self._pieces(one, room) for one in texts]
        total = sum(count for _, count in pieces)
        return self._encoding([one for one, _ in pieces], total, room, special_tokens=special_tokens)

    def encode_batch(
        self, texts: Iterable[str | tuple[str, str]], *, special_tokens: bool = False, max_length: int | None = None
    ) -> list[Encoding]:
        """`encode` of each text, or of each pair of texts."""
        pairs = (text if isinstance(text, tuple) else (text, None) for text in texts)
        return [self.encode(text, pair, special_tokens=special_tokens, max_length=max_length) for text, pair in pairs]

    def encode_masked(self, text: str, *, max_length: int | None = None) -> Encoding:
        """[CLS] text [SEP], where a typed "[MASK]" is that token in either behaviour.

        For text that a person wrote to have its gaps filled. No other special token is recognised beyond what the
        behaviour does anyway. Arguments and errors as those of `encode`.
        """
        room = None if max_length is None else self._room(max_length, 2)
        found = Pieces([], [], [])
        start = num_words = 0
        for number, part in enumerate(check_text(text).split("[MASK]")):
            if number:
                found.ids.append(self.vocabulary.mask_id)
                found.offsets.append((start - len("[MASK]"), start))
                found.word_ids.append(num_words)
                num_words += 1
            pieces, _ = self._pieces(part, None)
            found.ids.extend(pieces.ids)
            found.offsets.extend((start + first, start + last) for first, last in pieces.offsets)
            found.word_ids.extend(num_words + word for word in pieces.word_ids)
            num_words += pieces.word_ids[-1] + 1 if pieces.word_ids else 0
            start += len(part) + len("[MASK]")
        return self._encoding([found], len(found.ids), room, special_tokens=True)

    def ids_batch(self, texts: Iterable[str]) -> list[NDArray[np.int32]]:
        """The token ids of each text, and nothing else: no special tokens, no truncation, (tokens,) each.

        The fast way, for preparing a corpus: the ids of a word are computed once and remembered.

        Raises:
            DataError: a text is not a string, or holds half a surrogate pair.
        """
        ids = self._ids.__getitem__
        split_chinese = self.rules.split_chinese
        return [
            np.fromiter(
                chain.from_iterable(map(ids, find_words(check_text(text), split_chinese=split_chinese))), dtype=np.int32
            )
            for text in texts
        ]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the tokens: pieces joined to words, words and punctuation marks parted by one space.

        [PAD], [CLS] and [SEP] are left out; [MASK] and [UNK] are shown. What normalization took away is not restored.

        Raises:
            VocabularyError: an id is not in the vocabulary.
        """
        words: list[str] = []
        hidden = {self.vocabulary.pad_id, self.vocabulary.cls_id, self.vocabulary.sep_id}
        joined = self.vocabulary.is_continuation
        for index in ids:
            if not 0 <= index < len(self.vocabulary):
                last = len(self.vocabulary) - 1
                raise VocabularyError(f"no token has the id {index}: the vocabulary has the ids 0 to {last}.")
            token = self.vocabulary.tokens[index]
            if index in hidden:
                continue
            if joined[index] and words:
                words[-1] += token.removeprefix(CONTINUATION)
            else:
                words.append(token)
        return " ".join(words)

    def __repr__(self) -> str:
        casing = "uncased" if self.rules.lower_case else "cased"
        return f"<Tokenizer: {len(self.vocabulary):,} tokens, {casing}, {self.behaviour}>"

    def with_vocabulary(self, vocabulary: Vocabulary) -> "Tokenizer":
        """The tokenizer of the same rules, behaviour and length for another vocabulary."""
        make, _ = self.__reduce__()
        return make(vocabulary)

    def __reduce__(self) -> tuple[Any, ...]:
        # What was remembered is not sent to other processes; they fill their own caches.
        options = {
            "lower_case": self.rules.lower_case,
            "behaviour": self.behaviour,
            "strip_accents": self.rules.strip_accents,
            "split_chinese": self.rules.split_chinese,
            "max_length": self.max_length,
        }
        return partial(Tokenizer, **options), (self.vocabulary,)

    def _room(self, max_length: int, num_special: int) -> int:
        if max_length < num_special or max_length < 1:
            raise UsageError(f"max_length is {max_length}: too short for the {num_special} special tokens and any text")
        return max_length - num_special

    def _pieces(self, text: str, room: int | None) -> tuple[Pieces, int]:
        """The tokens of `text`, at least the first `room` of them, and how many there are in all.

        A long text costs memory for the tokens that are kept, not for those that are only counted.
        """
        check_text(text)
        if room is None or len(text) < _LONG_TEXT:
            pieces = self._behaviour.pieces(text)
            return pieces, len(pieces.ids)
        total, needed = 0, 0
        for start, end in find_spans(text, split_chinese=self.rules.split_chinese):
            if total < room:
                needed = end
            total += len(self._ids[text[start:end]])
        return self._behaviour.pieces(text[:needed]), total

    def _encoding(self, texts: Sequence[Pieces], total: int, room: int | None, *, special_tokens: bool) -> Encoding:
        lengths = [len(pieces.ids) for pieces in texts]
        if room is not None:
            lengths = _truncated_lengths(lengths, room)
        out = Encoding([], [], [], [], [], truncated=total - sum(lengths))

        def add(index: int, offset: tuple[int, int], word: int | None, kind: int) -> None:
            out.ids.append(index)
            out.offsets.append(offset)
            out.word_ids.append(word)
            out.type_ids.append(kind)

        if special_tokens:
            add(self.vocabulary.cls_id, (0, 0), None, 0)
        for kind, (pieces, length) in enumerate(zip(texts, lengths, strict=True)):
            out.ids.extend(pieces.ids[:length])
            out.offsets.extend(pieces.offsets[:length])
            out.word_ids.extend(pieces.word_ids[:length])
            out.type_ids.extend([kind] * length)
            if special_tokens:
                add(self.vocabulary.sep_id, (0, 0), None, kind)
        out.tokens.extend(map(self.vocabulary.tokens.__getitem__, out.ids))
        return out


def _truncated_lengths(lengths: list[int], room: int) -> list[int]:
    """Lengths that sum to at most `room`: the longest is shortened first, the last of the longest where several are."""
    lengths = list(lengths)
    while sum(lengths) > room:
        longest = max(range(len(lengths)), key=lambda which: (lengths[which], which))
        lengths[longest] -= 1
    return lengths
