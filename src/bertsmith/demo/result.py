"""Everything that a run of the demo found out: what its report shows, and nothing else."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any, get_type_hints

from bertsmith.config import from_dict, to_dict
from bertsmith.inspection import AttentionMap, Neighbour


@dataclass(frozen=True, kw_only=True)
class CorpusFacts:
    """The text that was read. `licence` is the line that must stand beside it: authors, source, licence, changes."""

    name: str
    documents: int
    words: int
    licence: str


@dataclass(frozen=True, kw_only=True)
class VocabularyFacts:
    """The vocabulary on held-out text: `fertility` is tokens a word, `unknown_rate` the share of words it cannot spell."""

    size: int
    fertility: float
    unknown_rate: float


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The encoder's name and size; `parameters` counts its weights."""

    name: str
    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    parameters: int


@dataclass(frozen=True, kw_only=True)
class ReferenceLines:
    """What a model gets that learned nothing: losses in nats, accuracy 0 to 1.

    `ln_v` is that of a blind guess among all tokens, `unigram` that of one who knows how frequent each token is, measured
    on held-out text. Next-sentence prediction has two answers, equally frequent.
    """

    ln_v: float
    unigram: float
    next_sentence_loss: float = math.log(2)
    next_sentence_accuracy: float = 0.5


@dataclass(frozen=True, kw_only=True)
class HeldoutFigures:
    """The finished model on text it never read: the loss in nats, accuracies 0 to 1."""

    masked_lm_loss: float
    masked_lm_accuracy: float
    next_sentence_accuracy: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The fine-tuned encoder beside what it must beat: accuracies 0 to 1 on the same test set, one a seed."""

    task: str
    train_size: int
    test_size: int
    pretrained: tuple[float, ...]
    not_pretrained: tuple[float, ...]
    tfidf: float
    majority: float

    @property
    def lift(self) -> float:
        """Mean score with pretraining less the mean without; 0.1 is ten points."""
        return fmean(self.pretrained) - fmean(self.not_pretrained)

    @property
    def lift_is_clear(self) -> bool:
        """Whether every pretrained run beats every other one, by more than a test set of this size may err.

        The error is two standard errors of the difference of two independent shares.
        """
        with_it, without = fmean(self.pretrained), fmean(self.not_pretrained)
        error = 2 * math.sqrt((with_it * (1 - with_it) + without * (1 - without)) / self.test_size)
        return min(self.pretrained) > max(self.not_pretrained) and self.lift > error


@dataclass(frozen=True)
class Fill:
    """A text with one [MASK], and the likeliest tokens for it with their probabilities, the likeliest first."""

    text: str
    candidates: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Neighbourhood:
    """A word in a sentence, and the other words elsewhere that are nearest to it."""

    word: str
    sentence: str
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What one run of the demo did and found.

    Attributes:
        seconds: how long each phase took, in the order they ran.
        log: the records of the pretraining run's `log.jsonl`.
        tokens_per_second: real tokens a second while pretraining.
        model_folder: the fine-tuned or pretrained model that other verbs can load.
        commands: what to try next, as typed in a terminal.
    """

    corpus: CorpusFacts
    vocabulary: VocabularyFacts
    model: ModelFacts
    seconds: dict[str, float]
    log: tuple[Mapping[str, Any], ...]
    references: ReferenceLines
    heldout: HeldoutFigures
    tokens_per_second: float
    comparison: Comparison
    fills: tuple[Fill, ...]
    neighbourhoods: tuple[Neighbourhood, ...]
    attention: AttentionMap
    model_folder: Path
    commands: tuple[str, ...]

    @property
    def total_seconds(self) -> float:
        """How long all phases took."""
        return sum(self.seconds.values())

    def to_json(self) -> str:
        """All of it as JSON. Attention weights are rounded to 1/255."""
        special = {
            "log": list(self.log),
            "attention": self.attention.to_dict(),
            "model_folder": str(self.model_folder),
        }
        plain = {f.name: to_dict(getattr(self, f.name)) for f in fields(self) if f.name not in special}
        return json.dumps(plain | special, allow_nan=False, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "DemoResult":
        """What `to_json` wrote.

        Raises:
            ConfigError: a value is missing or has another type.
        """
        data = json.loads(text)
        special = {
            "log": tuple(data.pop("log")),
            "attention": AttentionMap.from_dict(data.pop("attention")),
            "model_folder": Path(data.pop("model_folder")),
        }
        hints = get_type_hints(cls)
        return cls(**special, **{name: from_dict(hints[name], value, name) for name, value in data.items()})
