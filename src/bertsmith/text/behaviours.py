"""The two behaviours of BERT's tokenizer in use: Google's original, and Hugging Face's `tokenizers` library.

They agree on nearly all text. `docs/decisions/0004-tokenizer-behaviours.md` lists where they do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as RustTokenizer

from bertsmith.text.normalization import BasicTokenizer
from bertsmith.text.vocabulary import CONTINUATION, SPECIAL_TOKENS, Vocabulary
from bertsmith.text.wordpiece import WordPiece
from bertsmith.text.words import WordCache, find_spans

BehaviourName = Literal["hf", "google"]


@dataclass(frozen=True)
class Rules:
    """What a tokenizer does to text before it looks into the vocabulary.

    `strip_accents` None means: as `lower_case`. `split_chinese` makes every Chinese character a word.
    """

    lower_case: bool = True
    strip_accents: bool | None = None
    split_chinese: bool = True

    @property
    def strips_accents(self) -> bool:
        """`strip_accents`, decided."""
        return self.lower_case if self.strip_accents is None else self.strip_accents

    def basic_tokenizer(self) -> BasicTokenizer:
        """Google's `BasicTokenizer` that follows these rules."""
        return BasicTokenizer(self.lower_case, self.strips_accents, self.split_chinese)


class Pieces(NamedTuple):
    """The tokens of a text: three lists of one length.

    `offsets` are the start and end of each token in the text, in characters; `word_ids` the number of the basic token
    (word or punctuation mark) of which it is a piece.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]
    word_ids: list[int]


class Behaviour(Protocol):
    """How text becomes tokens. Special tokens are not added; `ids` of each word make up the ids of a text."""

    name: BehaviourName
    max_word_length: int

    def ids(self, word: str) -> tuple[int, ...]:
        """The token ids of a word as `find_words` found it."""
        ...

    def pieces(self, text: str) -> Pieces:
        """The tokens of `text` and where they come from."""
        ...


class _Cut(NamedTuple):
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    word_ids: tuple[int, ...]
    num_words: int


class Google:
    """Google's `FullTokenizer`, last revision: words of up to 200 characters, final sigma, Python's Unicode."""

    name: BehaviourName = "google"
    max_word_length = 200

    def __init__(self, vocabulary: Vocabulary, rules: Rules) -> None:
        """Make ready for `vocabulary`."""
        self._split_chinese = rules.split_chinese
        self._basic = rules.basic_tokenizer()
        self._wordpiece = WordPiece(vocabulary, self.max_word_length)
        self._cuts = WordCache(self._cut)

    def ids(self, word: str) -> tuple[int, ...]:
        """The token ids of a word as `find_words` found it."""
        return self._cuts[word].ids

    def pieces(self, text: str) -> Pieces:
        """The tokens of `text`, each with the characters as written from which it comes."""
        found = Pieces([], [], [])
        num_words = 0
        for start, end in find_spans(text, split_chinese=self._split_chinese):
            cut = self._cuts[text[start:end]]
            found.ids.extend(cut.ids)
            found.offsets.extend((start + first, start + last) for first, last in cut.offsets)
            found.word_ids.extend(num_words + number for number in cut.word_ids)
            num_words += cut.num_words
        return found

    def _cut(self, word: str) -> _Cut:
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        word_ids: list[int] = []
        tokens = self._basic.tokens(word)
        for number, (text, origins) in enumerate(tokens):
            for piece in self._wordpiece.pieces(text):
                ids.append(piece.id)
                offsets.append((origins[piece.start], origins[piece.end - 1] + 1))
                word_ids.append(number)
        return _Cut(tuple(ids), tuple(offsets), tuple(word_ids), len(tokens))


class HuggingFace:
    """The Rust library `tokenizers`, which transformers, sentence-transformers and most servers run.

    A special token that stands in the text as such, "[MASK]" say, is that token.
    """

    name: BehaviourName = "hf"
    max_word_length = 100

    def __init__(self, vocabulary: Vocabulary, rules: Rules) -> None:
        """Make ready for `vocabulary`."""
        self._tokenizer = rust_tokenizer(vocabulary, rules, self.max_word_length)

    def ids(self, word: str) -> tuple[int, ...]:
        """The token ids of a word as `find_words` found it."""
        return tuple(self._tokenizer.encode(word, add_special_tokens=False).ids)

    def pieces(self, text: str) -> Pieces:
        """The tokens of `text`, each with the characters as written from which it comes."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        word_ids: Sequence[int | None] = encoding.word_ids
        return Pieces(encoding.ids, encoding.offsets, [number for number in word_ids if number is not None])


BEHAVIOURS: dict[str, type[Google] | type[HuggingFace]] = {"google": Google, "hf": HuggingFace}


def rust_tokenizer(vocabulary: Vocabulary, rules: Rules, max_word_length: int) -> RustTokenizer:
    """The tokenizer of the library `tokenizers` that Hugging Face's `BertTokenizer` builds."""
    tokenizer = RustTokenizer(
        models.WordPiece(
            vocab=vocabulary.ids,
            unk_token="[UNK]",
            max_input_chars_per_word=max_word_length,
            continuing_subword_prefix=CONTINUATION,
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(  # pyright: ignore[reportAttributeAccessIssue]
        clean_text=True,
        handle_chinese_chars=rules.split_chinese,
        strip_accents=rules.strip_accents,
        lowercase=rules.lower_case,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary.cls_id), ("[SEP]", vocabulary.sep_id)],
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return tokenizer
