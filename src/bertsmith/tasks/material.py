"""What one fine-tuning run is made from: the model, the task that the labels set, and the examples, encoded once."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bertsmith.checkpoints import Checkpoint
from bertsmith.data import KeyedPermutation
from bertsmith.data.columns import Columns
from bertsmith.errors import DataError, UsageError
from bertsmith.tasks.reading import Labelled, read_labelled
from bertsmith.tasks.survey import Survey, survey
from bertsmith.tasks.task import Lesson, Task
from bertsmith.text.windows import FEWEST_TOKENS, Cutter, Extent, Window

FEWEST_EXAMPLES = 2


@dataclass(frozen=True, kw_only=True)
class Material:
    """A model to start from, a fitted task, labelled files; what is learned from, and the windows of each dev example."""

    start: Checkpoint
    task: Task
    train: Labelled
    dev: Labelled
    lessons: list[Lesson]
    dev_windows: list[tuple[Window, ...]]
    cutter: Cutter
    survey: Survey


def gather(
    start: Checkpoint,
    task: type[Task],
    train_path: str | Path,
    dev_path: str | Path,
    columns: Columns,
    cutting: tuple[int | None, int | None],
    most: int | None,
) -> Material:
    """Read both files, fit the task to the training labels, encode all texts as windows.

    `cutting` is the longest window and its stride; None leaves the choice to the model. The task is fitted to all training
    examples, whatever `most` leaves of them, so that it is the same task.

    Raises:
        DataError: for whatever is wrong in a file, with the line.
        UsageError: the length to cut at is not one that the model can read.
    """
    max_length, stride = cutting
    cutter = Cutter(start.tokenizer, _limit(start, max_length), stride)
    train = read_labelled(train_path, task, columns=columns)
    if len(train.examples) < FEWEST_EXAMPLES:
        raise DataError(f"{train_path}: {len(train.examples)} example, and training needs at least {FEWEST_EXAMPLES}.")
    fitted = task.learn(train)
    dev = read_labelled(dev_path, fitted, columns=columns, usual=train.layout.columns)
    fitted.check(dev)
    if len(train.layout.columns.texts) != len(dev.layout.columns.texts):
        raise DataError(f"{train_path} has {train.layout}; {dev_path} has {dev.layout}. Name the columns.")
    if most is not None and most < len(train.examples):
        order = KeyedPermutation(len(train.examples), 0, 0)(np.arange(most))
        train = replace(train, examples=tuple(train.examples[i] for i in order.tolist()))
    lessons: list[Lesson] = []
    extents: list[Extent] = []
    for example in train.examples:  # one at a time: windows take ten times the room of what is learned from them
        windows = fitted.windows(example.texts, cutter)
        extents.append(Extent.of(windows))
        lessons += fitted.lessons(windows, example.label)
    dev_windows = [fitted.windows(texts, cutter) for texts in dev.texts]
    return Material(
        start=start,
        task=fitted,
        train=train,
        dev=dev,
        lessons=lessons,
        dev_windows=dev_windows,
        cutter=cutter,
        survey=survey(fitted, train, dev, extents, list(map(Extent.of, dev_windows)), cutter.max_length),
    )


def _limit(start: Checkpoint, max_length: int | None) -> int:
    most = min(start.tokenizer.max_length, start.model.config.encoder.max_length)
    if max_length is not None and not FEWEST_TOKENS <= max_length <= most:
        raise UsageError(f"max_length: this model reads {FEWEST_TOKENS} to {most} tokens, got {max_length}")
    return max_length or most
