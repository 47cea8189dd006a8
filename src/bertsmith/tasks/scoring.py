"""Running a fine-tuned model over windows of texts: without padding, in an order that does not matter."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, chain, pairwise

import numpy as np
import torch

from bertsmith.embed import Running, groups_by_length
from bertsmith.nn import Model
from bertsmith.tasks.task import Task
from bertsmith.text.windows import Window


@torch.inference_mode()
def score(task: Task, running: Running, windows: Sequence[Sequence[Window]]) -> list[list[np.ndarray]]:
    """The head's scores for each window of each example, float32, in the order given; see `Task.scores` for their shape.

    Windows of like length share a batch. Scores do not depend on neighbours, beyond the rounding of the lane's numbers.
    """
    encodings = [window.encoding for window in chain.from_iterable(windows)]
    found: dict[int, np.ndarray] = {}
    with for_prediction(running.model) as model:
        for group in groups_by_length([len(encoding) for encoding in encodings]):
            inputs = running.batch([encodings[i] for i in group])
            found.update(zip(group, (scores.numpy() for scores in task.scores(model, inputs)), strict=True))
    bounds = accumulate(map(len, windows), initial=0)
    return [[found[number] for number in range(*bound)] for bound in pairwise(bounds)]


@contextmanager
def for_prediction(model: Model) -> Iterator[Model]:
    """No dropout, and hidden states in float32, so that a model says the same during training and once it is loaded."""
    training, dtype = model.training, model.encoder.stream_dtype
    model.eval()
    model.encoder.stream_dtype = torch.float32
    try:
        yield model
    finally:
        model.train(training)
        model.encoder.stream_dtype = dtype
