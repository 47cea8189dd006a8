"""Fine-tuning objectives for whole texts, pairs of texts, and choices between them (Devlin et al. 2018, §4.1, §4.4)."""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from bertsmith.config import require
from bertsmith.data import Batch
from bertsmith.nn import Head, Model, Output, SequenceHead
from bertsmith.objectives.likelihood import negative_log_likelihood
from bertsmith.objectives.objective import Loss, Objective, View


@dataclass(frozen=True, kw_only=True)
class SequenceLabel(Objective, kind="sequence_label"):
    """Choose one label for each text: softmax(C Wᵀ) on the pooled [CLS] vector C.

    Labels: `label` for each sequence, 0 to num_labels - 1.
    Loss: negative log-likelihood of the label, summed over sequences.
    """

    needs_pooler: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("label",)
    num_labels: int
    dropout: float = 0.1
    weight: float = 1.0
    view: View = View()

    def __post_init__(self) -> None:
        require(self.num_labels >= 2, "num_labels", f"expected at least 2, got {self.num_labels}")

    def head(self) -> Head.Config:
        return SequenceHead.Config(num_labels=self.num_labels, dropout=self.dropout)

    def count(self, inputs: Batch) -> int:
        return len(inputs.starts)

    def loss(self, model: Model, output: Output, inputs: Batch) -> Loss:
        labels = inputs.targets["label"]
        return negative_log_likelihood(_scores(self.kind, model, output), labels)


@dataclass(frozen=True, kw_only=True)
class SequenceScore(Objective, kind="sequence_score"):
    """Predict one number for each text, such as the similarity of a pair.

    Labels: `label` for each sequence, a float.
    Loss: squared error, summed over sequences.
    """

    needs_pooler: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("label",)
    dropout: float = 0.1
    weight: float = 1.0
    view: View = View()

    def head(self) -> Head.Config:
        return SequenceHead.Config(num_labels=1, dropout=self.dropout)

    def count(self, inputs: Batch) -> int:
        return len(inputs.starts)

    def loss(self, model: Model, output: Output, inputs: Batch) -> Loss:
        labels = inputs.targets["label"].float()
        scores = _scores(self.kind, model, output)[:, 0]
        return Loss(F.mse_loss(scores, labels, reduction="sum"), len(labels))


@dataclass(frozen=True, kw_only=True)
class MultiLabel(Objective, kind="multi_label"):
    """Decide on each label for itself: sigmoid(C Wᵀ) on the pooled [CLS] vector C.

    Labels: `label_0`, `label_1` ... for each sequence, 1 where the label applies and 0 elsewhere.
    Loss: binary cross-entropy, the mean over labels, summed over sequences.
    """

    needs_pooler: ClassVar[bool] = True
    num_labels: int
    dropout: float = 0.1
    weight: float = 1.0
    view: View = View()

    def __post_init__(self) -> None:
        require(self.num_labels >= 1, "num_labels", f"expected at least 1, got {self.num_labels}")

    def head(self) -> Head.Config:
        return SequenceHead.Config(num_labels=self.num_labels, dropout=self.dropout)

    def count(self, inputs: Batch) -> int:
        return len(inputs.starts)

    def loss(self, model: Model, output: Output, inputs: Batch) -> Loss:
        labels = torch.stack([inputs.targets[f"label_{i}"] for i in range(self.num_labels)], dim=1).float()
        scores = _scores(self.kind, model, output)
        total = F.binary_cross_entropy_with_logits(scores, labels, reduction="sum") / self.num_labels
        return Loss(total, len(labels))


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(Objective, kind="multiple_choice"):
    """Choose one of several sequences: softmax over the options of C·w (Devlin et al. 2018, §4.4, SWAG).

    The sequences of one choice stand behind one another in a batch; choices may have different numbers of options.

    Labels: `option` for each sequence, its number within its choice from 0; `right`, 1 for the one to be chosen.
    Loss: negative log-likelihood of the right option, summed over choices.
    """

    needs_pooler: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("option", "right")
    dropout: float = 0.1
    weight: float = 1.0
    view: View = View()

    def head(self) -> Head.Config:
        return SequenceHead.Config(num_labels=1, dropout=self.dropout)

    def count(self, inputs: Batch) -> int:
        return int((inputs.targets["option"] == 0).sum())

    def loss(self, model: Model, output: Output, inputs: Batch) -> Loss:
        option, right = inputs.targets["option"], inputs.targets["right"]
        choice = (option == 0).cumsum(0) - 1
        shape = self.count(inputs), int(option.max()) + 1
        scores = _scores(self.kind, model, output)[:, 0]
        table = scores.new_full(shape, float("-inf")).index_put((choice, option), scores)
        answers = option.new_zeros(shape).index_put((choice, option), right).argmax(1)
        return negative_log_likelihood(table, answers)


def _scores(name: str, model: Model, output: Output) -> Tensor:
    if output.pooled is None:
        raise ValueError(f"{name} reads the pooled vector, and this model has no pooler")
    return cast(SequenceHead, model.heads[name])(output.pooled).float()
