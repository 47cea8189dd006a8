"""A vocabulary: the tokens a model knows, in the order of their ids, and its file `vocab.txt`."""

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertsmith.errors import VocabularyError
from bertsmith.folders import is_lfs_pointer, read_small

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUATION = "##"
FILE_NAME = "vocab.txt"

MOST_BYTES = 32 << 20
"""More than any file of a tokenizer has: the largest public ones, LaBSE's 501,153 tokens, take 5 and 10 MB."""

MOST_TOKENS = 1_000_000
"""More than any vocabulary has; they are counted before they are made, since each takes a hundred bytes of memory."""

# A line longer than this is no token but a file that is not a vocabulary.
_LONGEST_TOKEN = 1_000


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id. The five special tokens must be there; no token stands twice.

    A token is stripped of white space at both ends, as the original strips the lines of its file. So a line of white
    space is the token "", which no text can reach; public vocabularies have one, and its id must not move.

    Attributes:
        tokens: (vocab_size,) the token of each id.
        ids: the id of each token.
    """

    tokens: tuple[str, ...]
    ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ids: dict[str, int] = {}
        for index, token in enumerate(self.tokens):
            _check_token(token, index)
            if token in ids:
                raise VocabularyError(
                    f"line {index + 1}: the token {token!r} already stands in line {ids[token] + 1}. "
                    "Every token has one id: remove one of the two lines."
                )
            ids[token] = index
        missing = [token for token in SPECIAL_TOKENS if token not in ids]
        if missing:
            raise VocabularyError(
                f"line {len(self.tokens) + 1}: end of the vocabulary, and it has no {' '.join(missing)}. "
                f"A BERT vocabulary holds {' '.join(SPECIAL_TOKENS)}, each on a line of its own."
            )
        object.__setattr__(self, "ids", ids)

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """Read `vocab.txt`, or the one in a folder: one token a line, UTF-8; the id is the line number from 0.

        Raises:
            VocabularyError: the file is missing or is no vocabulary; the message names the line.
        """
        file = Path(path)
        if file.is_dir():
            file = file / FILE_NAME
        try:
            content = read_small(file, MOST_BYTES)
        except OSError as error:
            raise VocabularyError(f"{file}: cannot be read ({error.strerror}). Expected a vocabulary file.") from None
        except ValueError as error:
            raise VocabularyError(f"{file}: {error}. Expected a vocabulary file.") from None
        if is_lfs_pointer(content):
            raise VocabularyError(f"{file}: it is a git-lfs pointer. Fetch the real file with `git lfs pull`.")
        if (lines := content.count(b"\n")) > MOST_TOKENS:
            raise VocabularyError(f"{file}: {lines:,} lines, and a vocabulary has {MOST_TOKENS:,} tokens at most.")
        if content.startswith(b"\xef\xbb\xbf"):
            raise VocabularyError(f"{file}, line 1: starts with a byte order mark. Save the file as UTF-8 without one.")
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise VocabularyError(f"{file}, line {line}: not UTF-8 ({error.reason}). Save the file as UTF-8.") from None
        # Only a line feed ends a line: splitlines() would also break at U+2028, which is a token of bert-base-chinese.
        lines = text.removesuffix("\n").split("\n") if text else []
        try:
            return cls(tuple(line.strip() for line in lines))
        except VocabularyError as error:
            raise VocabularyError(f"{file}, {error}") from None

    def save(self, path: str | Path) -> Path:
        """Write the file (`vocab.txt` where `path` is a folder) and return its path. Its SHA-256 is `self.sha256`."""
        file = Path(path)
        if file.is_dir():
            file = file / FILE_NAME
        file.write_bytes(self._content())
        return file

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file that `save` writes, in hexadecimal."""
        return sha256(self._content()).hexdigest()

    @property
    def pad_id(self) -> int:
        """Id of [PAD]."""
        return self.ids["[PAD]"]

    @property
    def unk_id(self) -> int:
        """Id of [UNK], a word that the vocabulary cannot spell."""
        return self.ids["[UNK]"]

    @property
    def cls_id(self) -> int:
        """Id of [CLS], the first token of every input."""
        return self.ids["[CLS]"]

    @property
    def sep_id(self) -> int:
        """Id of [SEP], the last token of every sequence."""
        return self.ids["[SEP]"]

    @property
    def mask_id(self) -> int:
        """Id of [MASK]."""
        return self.ids["[MASK]"]

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of the five special tokens."""
        return frozenset(self.ids[token] for token in SPECIAL_TOKENS)

    @cached_property
    def is_special(self) -> NDArray[np.bool_]:
        """(vocab_size,) True at the five special tokens. Read-only."""
        return _read_only([index in self.special_ids for index in range(len(self))])

    @cached_property
    def is_continuation(self) -> NDArray[np.bool_]:
        """(vocab_size,) True at tokens that continue a word, those written with "##". Read-only."""
        return _read_only([token.startswith(CONTINUATION) and token != CONTINUATION for token in self.tokens])

    def _content(self) -> bytes:
        return "".join(f"{token}\n" for token in self.tokens).encode("utf-8")


def _check_token(token: str, index: int) -> None:
    if token != token.strip() or "\n" in token:
        raise VocabularyError(f"line {index + 1}: the token {token!r} has white space at an end or a line break in it.")
    if len(token) > _LONGEST_TOKEN:
        raise VocabularyError(
            f"line {index + 1}: {len(token):,} characters long, and a token has at most {_LONGEST_TOKEN:,}. "
            "This is probably not a vocabulary file."
        )


def _read_only(values: list[bool]) -> NDArray[np.bool_]:
    array = np.array(values, dtype=np.bool_)
    array.flags.writeable = False
    return array
