"""Fine-tuning objectives for a whole text or a pair of texts (Devlin et al. 2018, §4.1)."""

from dataclasses import dataclass
from typing import ClassVar, cast

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


def _scores(name: str, model: Model, output: Output) -> Tensor:
    if output.pooled is None:
        raise ValueError(f"{name} reads the pooled vector, and this model has no pooler")
    return cast(SequenceHead, model.heads[name])(output.pooled).float()
