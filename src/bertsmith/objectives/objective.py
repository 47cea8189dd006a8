"""What a model is trained to do (plug point: objective).

An objective says which head it needs and what its loss is. Labels always come from the data side, so masked, causal and
permutation language models share one loss, and a batch already knows how many predictions it holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from bertsmith.config import Part
from bertsmith.data import Batch
from bertsmith.nn import AttentionMask, Head, Model, Output


@dataclass(frozen=True)
class View:
    """One encoder pass: the attention masks that replace the encoder's own, by stream.

    Objectives with equal views share a pass. BERT's objectives use the encoder as it is, which is the empty view.
    """

    masks: tuple[tuple[str, AttentionMask], ...] = ()


@dataclass(frozen=True)
class Loss:
    """The result of one objective on one batch.

    `total` is the *sum* of the losses of `count` predictions, so that batches of unequal size can be added exactly: the
    loss is total / count. `correct` counts right predictions where that means something.
    """

    total: Tensor
    count: int
    correct: Tensor | None = None

    def figures(self) -> Tensor:
        """`total` and `correct` (NaN if there is none), detached: float32 (2,)."""
        correct = torch.full_like(self.total, float("nan")) if self.correct is None else self.correct
        return torch.stack([self.total.detach().float(), correct.float()])


class Objective(Part):
    """A training objective. Its name in logs and in checkpoints is its kind.

    `needs` names what it reads of a batch beyond the text: "labels", which a masking policy gives, or a target of each
    sequence, which the instances give.
    """

    needs_pooler: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    view: View = View()
    weight: float = 1.0

    def head(self) -> Head.Config | None:
        """The head this objective trains, if it has one."""
        raise NotImplementedError

    def count(self, inputs: Batch) -> int:
        """How many predictions this batch holds, known without running the model."""
        raise NotImplementedError

    def loss(self, model: Model, output: Output, inputs: Batch) -> Loss:
        """The loss of one pass over one batch."""
        raise NotImplementedError

    def scores(self, model: Model, output: Output, positions: Tensor) -> Tensor | None:
        """Scores of every token at flat positions, (positions, vocab); None where it does not predict tokens."""
        return None


class Losses(nn.Module):
    """A model and what it is trained to do, as one module: `forward(inputs)` gives every objective's loss, by kind."""

    def __init__(self, model: Model, objectives: Sequence[Objective]) -> None:
        super().__init__()
        self.model = model
        self.objectives = objectives

    def forward(self, inputs: Batch) -> dict[str, Loss]:
        """One encoder pass for each distinct view, then each objective's loss."""
        views = dict.fromkeys(objective.view for objective in self.objectives)
        passes = {view: self.model(inputs, dict(view.masks)) for view in views}
        return {o.kind: o.loss(self.model, passes[o.view], inputs) for o in self.objectives}
