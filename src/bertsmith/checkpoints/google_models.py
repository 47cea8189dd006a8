"""The models that Google published as TensorFlow checkpoints, and how a folder's casing is told.

google-research/bert `README.md` and `multilingual.md`; the 24 small ones are of Turc et al. 2019 (arXiv 1908.08962). Neither
a checkpoint nor its `bert_config.json` says whether text is lower-cased: the original code looks at the name of the folder
(`tokenization.py`, `validate_case_matches_checkpoint`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bertsmith.errors import CheckpointError
from bertsmith.text import Vocabulary

# Fewer tokens with capitals than this are strays: uncased vocabularies have none to speak of, cased ones every fourth.
_CAPITALS = 0.01

_HOW_TO_SAY = 'Say it in a file tokenizer_config.json beside vocab.txt: {"do_lower_case": true} or false.'


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published model. `family` and sizes make the name of its folder; heads are 64 wide in all of them."""

    family: str
    title: str
    lower_case: bool
    vocab_size: int
    num_hidden_layers: int = 12
    hidden_size: int = 768

    @property
    def num_attention_heads(self) -> int:
        """Heads a layer."""
        return self.hidden_size // 64

    @property
    def name(self) -> str:
        """The name of its folder and of its archive."""
        return f"{self.family}_L-{self.num_hidden_layers}_H-{self.hidden_size}_A-{self.num_attention_heads}"


_UNCASED, _CASED = 30_522, 28_996
_SMALL_TITLES = {(2, 128): "BERT-Tiny", (4, 256): "BERT-Mini", (4, 512): "BERT-Small", (8, 512): "BERT-Medium"}


def _large(family: str, title: str, vocab_size: int) -> Published:
    return Published(
        family=family,
        title=title,
        lower_case=vocab_size == _UNCASED,
        vocab_size=vocab_size,
        num_hidden_layers=24,
        hidden_size=1024,
    )


PUBLISHED: tuple[Published, ...] = (
    Published(family="uncased", title="BERT-Base, Uncased", lower_case=True, vocab_size=_UNCASED),
    Published(family="cased", title="BERT-Base, Cased", lower_case=False, vocab_size=_CASED),
    _large("uncased", "BERT-Large, Uncased", _UNCASED),
    _large("cased", "BERT-Large, Cased", _CASED),
    _large("wwm_uncased", "BERT-Large, Uncased (Whole Word Masking)", _UNCASED),
    _large("wwm_cased", "BERT-Large, Cased (Whole Word Masking)", _CASED),
    Published(family="multi_cased", title="BERT-Base, Multilingual Cased", lower_case=False, vocab_size=119_547),
    Published(family="multilingual", title="BERT-Base, Multilingual Uncased", lower_case=True, vocab_size=105_879),
    Published(family="chinese", title="BERT-Base, Chinese", lower_case=True, vocab_size=21_128),
    *(
        Published(
            family="uncased",
            title=_SMALL_TITLES.get((layers, hidden), f"BERT {layers}/{hidden}") + ", Uncased",
            lower_case=True,
            vocab_size=_UNCASED,
            num_hidden_layers=layers,
            hidden_size=hidden,
        )
        for layers in (2, 4, 6, 8, 10, 12)
        for hidden in (128, 256, 512, 768)
        if (layers, hidden) != (12, 768)  # the 24th is base again, trained anew under its old name
    ),
)
"""All 32 names. Two models have the name `uncased_L-12_H-768_A-12`: that of 2018, and the one of 2020 beside the small."""


def published_as(folder: str) -> Published | None:
    """The model whose name the name of a folder holds: `my-uncased_L-2_H-128_A-2-v1` is one."""
    for model in sorted(PUBLISHED, key=lambda model: -len(model.name)):
        if re.search(rf"(?<![a-z]){re.escape(model.name)}(?!\d)", folder, re.IGNORECASE):
            return model
    return None


def shaped_like(*, vocab_size: int, num_hidden_layers: int, hidden_size: int) -> list[Published]:
    """The published models of these sizes."""
    wanted = (vocab_size, num_hidden_layers, hidden_size)
    return [model for model in PUBLISHED if (model.vocab_size, model.num_hidden_layers, model.hidden_size) == wanted]


def tell_casing(folder: str, vocabulary: Vocabulary) -> tuple[bool, str]:
    """Whether text is lower-cased for the model in a folder of this name, and in words, how that is known.

    The name decides, the published ones and then the word `cased` or `uncased` in any; without either, whether tokens have
    capital letters.

    Raises:
        CheckpointError: the name says one thing and the vocabulary another.
    """
    capitals = _with_capitals(vocabulary.tokens)
    counted = f"{capitals:,} of the {len(vocabulary):,} tokens in vocab.txt have capital letters"
    by_tokens = capitals < _CAPITALS * len(vocabulary)
    published, word = published_as(folder), re.search(r"(?<![a-z])(un)?cased(?![a-z])", folder, re.IGNORECASE)
    if published is not None:
        lower_case, reason = published.lower_case, f"{folder} is Google's {published.title}"
    elif word is not None:
        lower_case, reason = word[1] is not None, f"the folder is called {folder}"
    else:
        return by_tokens, f"{_casing(by_tokens)}, because {counted}"
    if lower_case != by_tokens:
        raise CheckpointError(
            f"The name of the folder {folder} says {_casing(lower_case)}, but {counted}, as in {_casing(by_tokens)} models. "
            f"{_HOW_TO_SAY}"
        )
    return lower_case, f"{_casing(lower_case)}, because {reason}"


def _casing(lower_case: bool) -> str:  # noqa: FBT001
    return "uncased" if lower_case else "cased"


def _with_capitals(tokens: Sequence[str]) -> int:
    """How many tokens have capital letters, besides those in brackets, [CLS] for one."""
    return sum(token != token.lower() for token in tokens if not (token.startswith("[") and token.endswith("]")))
