"""What one fine-tuning run is made from: the model, the task that the labels set, and the examples, encoded once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertsmith.checkpoints import Checkpoint
from bertsmith.data import Example
from bertsmith.errors import DataError, UsageError
from bertsmith.tasks.columns import Columns
from bertsmith.tasks.reading import Labelled, read_labelled
from bertsmith.tasks.survey import Survey, survey
from bertsmith.tasks.task import Task
from bertsmith.text import Encoding

FEWEST_EXAMPLES = 2
_SHORTEST_LIMIT = 8


@dataclass(frozen=True, kw_only=True)
class Material:
    """A model to start from, a fitted task, labelled files. `max_length` is the longest that `encodings` may be."""

    start: Checkpoint
    task: Task
    train: Labelled
    dev: Labelled
    examples: list[Example]
    dev_encodings: list[Encoding]
    max_length: int
    survey: Survey


def gather(
    start: Checkpoint,
    task: type[Task],
    train_path: str | Path,
    dev_path: str | Path,
    columns: Columns,
    max_length: int | None,
) -> Material:
    """Read both files, fit the task to the training labels, encode all texts.

    Raises:
        DataError: for whatever is wrong in a file, with the line.
        UsageError: `max_length` is not one that the model can read.
    """
    limit = _limit(start, max_length)
    train = read_labelled(train_path, task, columns=columns)
    if len(train.examples) < FEWEST_EXAMPLES:
        raise DataError(f"{train_path}: {len(train.examples)} example, and training needs at least {FEWEST_EXAMPLES}.")
    fitted = task.learn(train)
    dev = read_labelled(dev_path, fitted, columns=columns, usual=train.layout.columns)
    fitted.check(dev)
    if len(train.layout.columns.texts) != len(dev.layout.columns.texts):
        raise DataError(f"{train_path} has {train.layout}; {dev_path} has {dev.layout}. Name the columns.")
    encode = start.tokenizer.encode_batch
    train_encodings = encode(train.texts, special_tokens=True, max_length=limit)
    dev_encodings = encode(dev.texts, special_tokens=True, max_length=limit)
    return Material(
        start=start,
        task=fitted,
        train=train,
        dev=dev,
        examples=[
            Example(
                {"input_ids": np.array(e.ids, np.int64), "token_type_ids": np.array(e.type_ids, np.int64)},
                fitted.targets(label),
            )
            for e, label in zip(train_encodings, train.labels, strict=True)
        ],
        dev_encodings=dev_encodings,
        max_length=limit,
        survey=survey(train, dev, train_encodings, dev_encodings, limit),
    )


def _limit(start: Checkpoint, max_length: int | None) -> int:
    most = min(start.tokenizer.max_length, start.model.config.encoder.max_length)
    if max_length is not None and not _SHORTEST_LIMIT <= max_length <= most:
        raise UsageError(f"max_length: this model reads {_SHORTEST_LIMIT} to {most} tokens, got {max_length}")
    return max_length or most
