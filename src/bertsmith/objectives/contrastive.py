"""A contrastive objective for vectors of texts: two views of a text belong together, those of others do not."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from bertsmith.config import require
from bertsmith.data import Batch
from bertsmith.nn import MeanPooling, Model, Output, Pooling
from bertsmith.objectives.likelihood import negative_log_likelihood
from bertsmith.objectives.objective import Loss, Objective, View


@dataclass(frozen=True, kw_only=True)
class Contrastive(Objective, kind="contrastive"):
    """Find the second view of each text among the second views of all texts of the batch.

    Inputs: sequences 2i and 2i + 1 of the batch are the two views of text i.
    Loss: negative log-likelihood of the right one under softmax(cosine / temperature), summed over texts. The more texts in a
        batch, the harder; so a batch is not to be divided.
    Reference: Gao et al. 2021 (SimCSE), equation 1; van den Oord et al. 2018.
    """

    needs: ClassVar[tuple[str, ...]] = ("two views of each text",)
    pooling: Pooling = MeanPooling()
    temperature: float = 0.05
    weight: float = 1.0
    view: View = View()

    def __post_init__(self) -> None:
        require(self.temperature > 0, "temperature", f"expected more than 0, got {self.temperature}")

    def head(self) -> None:
        """It trains the vectors themselves."""

    def count(self, inputs: Batch) -> int:
        return inputs.num_sequences // 2

    def loss(self, model: Model, output: Output, inputs: Batch) -> Loss:
        vectors = F.normalize(self.pooling.of(output, inputs), dim=-1)
        first, second = vectors[0::2], vectors[1::2]
        own = torch.arange(len(first), device=vectors.device)
        return negative_log_likelihood(first @ second.T / self.temperature, own)
