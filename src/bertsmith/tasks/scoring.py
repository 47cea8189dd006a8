"""Running a fine-tuned model over texts: packed, in float32, in an order that does not matter."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from bertsmith.embed import batch_encodings, groups_by_length
from bertsmith.nn import Model
from bertsmith.tasks.task import Task
from bertsmith.text import Encoding, Tokenizer


@torch.inference_mode()
def score(task: Task, model: Model, tokenizer: Tokenizer, encodings: Sequence[Encoding]) -> np.ndarray:
    """The head's scores for each encoded text, float32 (texts, scores a text), in the order given.

    Texts of like length share a batch. A text's scores do not depend on its neighbours, beyond the rounding of float32.
    """
    device = next(model.parameters()).device
    parts: list[torch.Tensor] = []
    order: list[int] = []
    with for_prediction(model):
        for group in groups_by_length([len(encoding) for encoding in encodings]):
            inputs = batch_encodings([encodings[i] for i in group], tokenizer).to(device)
            parts.append(task.scores(model, inputs).cpu())
            order.extend(group)
    scores = torch.cat(parts).numpy()
    return scores[np.argsort(order)]


@contextmanager
def for_prediction(model: Model) -> Iterator[None]:
    """No dropout, and hidden states in float32, so that a model says the same during training and once it is loaded."""
    training, dtype = model.training, model.encoder.stream_dtype
    model.eval()
    model.encoder.stream_dtype = torch.float32
    try:
        yield
    finally:
        model.train(training)
        model.encoder.stream_dtype = dtype
