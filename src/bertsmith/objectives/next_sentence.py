"""Next-sentence prediction (Devlin et al. 2018, §3.1, task 2)."""

from dataclasses import dataclass
from typing import ClassVar, cast

from bertsmith.data import Batch
from bertsmith.nn import Head, Model, Output, SequenceHead
from bertsmith.objectives.likelihood import negative_log_likelihood
from bertsmith.objectives.objective import Loss, Objective, View


@dataclass(frozen=True, kw_only=True)
class NextSentence(Objective, kind="next_sentence"):
    """Say whether the second text followed the first in its document, or came from another.

    Labels: `next_sentence_label` for each sequence: 0 it followed, 1 it is random (the order of the released weights).
    Loss: the negative log-likelihood of the label, summed over sequences: the paper's L2.
    """

    needs_pooler: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("next_sentence_label",)
    weight: float = 1.0
    view: View = View()

    def head(self) -> Head.Config:
        return SequenceHead.Config(num_labels=2, dropout=0.0)

    def count(self, inputs: Batch) -> int:
        return len(inputs.starts)

    def loss(self, model: Model, output: Output, inputs: Batch) -> Loss:
        if output.pooled is None:
            raise ValueError("next-sentence prediction reads the pooled vector, and this model has no pooler")
        labels = inputs.targets["next_sentence_label"]
        scores = cast(SequenceHead, model.heads[self.kind])(output.pooled)
        return negative_log_likelihood(scores.float(), labels)
