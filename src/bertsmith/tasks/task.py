"""What a fine-tuned model does with texts (plug point: task).

A task that was not yet fitted is a class: `Task.kinds()["classify"]`. Its `learn` looks at the training labels and returns
the task as it is stored with the model: a frozen part that knows its labels. A task reads its examples from a file's cells,
cuts them into windows that the model reads, makes lessons of windows and labels, picks an objective, which owns head and
loss, and makes predictions of the windows' scores, which it judges.

A further task is a further subclass; files, windows, training and prediction stay the same.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
from torch import Tensor

from bertsmith.config import Part, from_dict, to_dict
from bertsmith.data import Batch, Example
from bertsmith.data.columns import Wanted
from bertsmith.errors import UsageError, nearest
from bertsmith.nn import Model
from bertsmith.objectives import Objective
from bertsmith.tasks.prediction import Evaluation, Prediction
from bertsmith.tasks.words import Words
from bertsmith.text import Encoding
from bertsmith.text.windows import Cutter, Window

if TYPE_CHECKING:
    from bertsmith.tasks.reading import Labelled


@dataclass(frozen=True, slots=True)
class Answer:
    """A stretch of a context, and the character with which it begins."""

    text: str
    start: int


Label: TypeAlias = str | float | tuple[str, ...] | tuple[Answer, ...]
"""What a file says of an example: a name, a number (also of an option), a tag for each word, several names, answers."""

Texts: TypeAlias = str | tuple[str, ...] | Words
"""The input of one prediction: a text; a pair; question and context; a beginning and its options; words."""

Lesson: TypeAlias = tuple[tuple[Example, ...], ...]
"""What is learned from one example at a time: of several alternatives, such as the windows of a long text, each epoch takes
one. It is one sequence, or several that belong together, such as the options of a choice."""


class Task(Part):
    """One kind of thing to predict. `metric_names` are what an evaluation tells; the first one picks the best epoch."""

    wanted: ClassVar[Wanted] = Wanted()
    metric_names: ClassVar[tuple[str, ...]]

    @property
    def metric(self) -> str:
        """The metric that picks the best epoch; higher is better."""
        return self.metric_names[0]

    @classmethod
    def read_texts(cls, cells: Sequence[Any]) -> Texts:
        """The input, from the cells of a file's text columns. ValueError with what is wrong, if it is none."""
        for cell in cells:
            if not isinstance(cell, str | None):
                raise ValueError(f"{cell!r:.60} is not text")
        texts = tuple(cell or "" for cell in cells)
        return texts[0] if len(texts) == 1 else texts

    @classmethod
    def read_label(cls, value: Any, texts: Texts) -> Label:
        """A label as a file holds it. ValueError with what is wrong, if it is no label of this task."""
        raise NotImplementedError

    @classmethod
    def names(cls, label: Label) -> Iterable[str]:
        """What to count a label as, in a survey of a file; nothing for a number."""
        return [str(label)]

    @classmethod
    def learn(cls, train: "Labelled") -> "Task":
        """The task that these training examples set. DataError if nothing can be learned from them."""
        raise NotImplementedError

    def check(self, labelled: "Labelled") -> None:
        """DataError if an example has a label that the task does not know."""

    def objective(self) -> Objective:
        """What the model is trained for; its kind is the name of the head."""
        raise NotImplementedError

    def windows(self, texts: Texts, cutter: Cutter) -> tuple[Window, ...]:
        """What the model reads of an example."""
        if isinstance(texts, str):
            return cutter.text(texts)
        assert isinstance(texts, tuple), "words are for tagging"
        return cutter.pair(texts[0], texts[1])

    def lessons(self, windows: Sequence[Window], label: Label) -> list[Lesson]:
        """What to learn from an example: here one window of each, with the same targets."""
        return [tuple((example(window, self.targets(label)),) for window in windows)]

    def targets(self, label: Label) -> dict[str, int | float]:
        """What the objective wants to know of a text with this label."""
        raise NotImplementedError

    def scores(self, model: Model, inputs: Batch) -> Sequence[Tensor]:
        """What the head says of each window, float32 on the CPU: here one row, (scores,)."""
        pooled = model(inputs).pooled
        assert pooled is not None, "a model with a sequence head has a pooler"
        return model.heads[self.objective().kind](pooled).float().cpu().unbind(0)

    def predict(self, texts: Texts, windows: Sequence[Window], scores: Sequence[np.ndarray]) -> Prediction:
        """From the head's scores of each window of an example."""
        raise NotImplementedError

    def evaluate(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> Evaluation:
        """Compare predictions with labels that were checked."""
        raise NotImplementedError

    def tuned(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> "Task":
        """The task with whatever is chosen on the dev file, such as a threshold; itself if there is nothing."""
        return self

    def is_collapsed(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> bool:
        """Whether the model says the same of everything, although not everything is the same."""
        raise NotImplementedError

    def finish(self, model: Model) -> "Task":
        """Make the trained head give its predictions in the end user's units; the task that goes with it."""
        return self


def example(window: Window, targets: Mapping[str, int | float], labels: np.ndarray | None = None) -> Example:
    """A window as a training example, perhaps with a label for each token."""
    return Example(tokens_of(window.encoding) | ({} if labels is None else {"labels": labels}), targets)


def tokens_of(encoding: Encoding) -> dict[str, np.ndarray]:
    """The fields that a model reads."""
    return {
        "input_ids": np.array(encoding.ids, np.int64),
        "token_type_ids": np.array(encoding.type_ids, np.int64),
    }


def cut_counts(windows: Sequence[Window]) -> dict[str, Any]:
    """`windows` and `truncated` of a prediction."""
    return {
        "windows": max(Counter(window.part for window in windows).values()),
        "truncated": max(window.encoding.truncated for window in windows),
    }


def find_task(kind: str) -> type[Task]:
    """The task called `kind`, not yet fitted.

    Raises:
        UsageError: there is none; it lists those there are.
    """
    kinds = Task.kinds()
    if kind not in kinds:
        raise UsageError(f"There is no task called {kind!r}.{nearest(kind, kinds)}")
    found = kinds[kind]
    assert issubclass(found, Task)
    return found


def stored_task(data: Mapping[str, Any]) -> Task:
    """The fitted task that a checkpoint tells of: `kind` and what belongs to that kind. Other keys are other people's."""
    kind = str(data.get("kind"))
    known = {field.name for field in fields(find_task(kind))}  # pyright: ignore[reportArgumentType]
    return from_dict(Task, {"kind": kind} | {name: value for name, value in data.items() if name in known})


def task_dict(task: Task) -> dict[str, Any]:
    """A fitted task as JSON values: the inverse of `stored_task`."""
    return to_dict(task)
