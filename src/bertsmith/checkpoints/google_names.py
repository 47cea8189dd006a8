"""Where each of our parameters is in a checkpoint of google-research/bert (`modeling.py` and its `run_*.py`).

The names follow from those of Hugging Face, which came from these: a path with slashes, `kernel` for a linear layer's matrix,
which is the other way round here (inputs, outputs), `gamma` and `beta` in normalizations, and heads with names of their own.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from bertsmith import nn
from bertsmith.checkpoints import huggingface_names
from bertsmith.checkpoints.huggingface_config import MASKED_LM, NEXT_SENTENCE, SEQUENCE_CLASSIFICATION
from bertsmith.checkpoints.transforms import Transform

TOKEN_TABLE = "bert/embeddings/word_embeddings"
LM_BIAS = "cls/predictions/output_bias"

# Each with a matrix whose rows are the scores, as in ours: (labels, hidden).
_HEADS = {"cls.seq_relationship": "cls/seq_relationship/", "classifier": "", "qa_outputs": "cls/squad/"}

# Variables of optimizers: Adam and LAMB of the original code and of NVIDIA's, and TensorFlow's own.
_SLOTS = ("adam_m", "adam_v", "lamb_m", "lamb_v", "Adam", "Adam_1", "Momentum", "vr", "vc")
_SLOTS += tuple(f"{name}Optimizer{end}" for name in ("AdamWeightDecay", "LAMB") for end in ("", "_1"))
_COUNTERS = {"global_step", "beta1_power", "beta2_power", "current_loss_scale", "good_steps"}


@dataclass(frozen=True)
class _Google:
    """One of Hugging Face's transforms, with the original names and the matrices of linear layers turned."""

    inner: Transform

    @property
    def ours(self) -> str:
        return self.inner.ours

    @property
    def theirs(self) -> tuple[str, ...]:
        return tuple(google_name(name) for name in self.inner.theirs)

    def read(self, tensors: Sequence[Tensor]) -> Tensor:
        return self.inner.read(self._turned(tensors))

    def write(self, tensor: Tensor) -> Sequence[Tensor]:
        return self._turned(self.inner.write(tensor))

    def _turned(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        return [tensor.T for tensor in tensors] if self.theirs[0].endswith("/kernel") else tensors


def transforms(config: nn.Model.Config, table_rows: int | None = None) -> list[Transform]:
    """The table for a model without an obstacle; `table_rows` as in `huggingface_names.transforms`."""
    return [_Google(transform) for transform in huggingface_names.transforms(config, table_rows)]


def google_name(name: str) -> str:
    """The name in the original code of a tensor that Hugging Face calls `name`."""
    module, _, kind = name.rpartition(".")
    if module in _HEADS:
        return f"{_HEADS[module]}output_{'weights' if kind == 'weight' else kind}"
    if name == huggingface_names.LM_BIAS:
        return LM_BIAS
    path = re.sub(r"\blayer\.(\d+)\b", r"layer_\1", module).replace(".", "/")
    if path.endswith("_embeddings"):
        return path
    if path.endswith("LayerNorm"):
        return f"{path}/{'gamma' if kind == 'weight' else 'beta'}"
    return f"{path}/{'kernel' if kind == 'weight' else kind}"


def without_training_state(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The names of a model's weights, and those of an optimizer's variables and counters."""
    weights, state = [], []
    for name in names:
        _, _, last = name.rpartition("/")
        (state if last in _SLOTS or name in _COUNTERS else weights).append(name)
    return weights, state


def fine_tuned_head(names: Iterable[str]) -> tuple[str, str] | None:
    """The matrix of the head that one of the `run_*.py` trained, and the class of transformers that has such a one.

    Those who built on `run_classifier.py` gave the same name to heads for tokens and for choices.
    """
    heads = {"output_weights": SEQUENCE_CLASSIFICATION, "cls/squad/output_weights": "BertForQuestionAnswering"}
    return next(((name, heads[name]) for name in names if name in heads), None)


def parts_present(names: Iterable[str]) -> tuple[bool, set[str]]:
    """Whether a checkpoint has a pooler, and the heads of pretraining that it has."""
    prefixes = {"bert/pooler/": "pooler", "cls/predictions/": MASKED_LM, "cls/seq_relationship/": NEXT_SENTENCE}
    present = {part for name in names for prefix, part in prefixes.items() if name.startswith(prefix)}
    return "pooler" in present, present - {"pooler"}
