"""What a fine-tuned model does with texts (plug point: task).

A task that was not yet fitted is a class: `Task.kinds()["classify"]`. Its `learn` looks at the training labels and returns
the task as it is stored with the model: a frozen part that knows its labels. A task picks an objective, which owns head
and loss; it makes training targets from labels and predictions from scores, and judges them.

A further task is a further subclass. It may ask more of a file (`wanted`), give targets for each token instead of each
text (`targets`), and make other predictions; the loop around it stays the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
from torch import Tensor

from bertsmith.config import Part, from_dict, to_dict
from bertsmith.data import Batch
from bertsmith.errors import UsageError, nearest
from bertsmith.nn import Model
from bertsmith.objectives import Objective
from bertsmith.tasks.columns import Wanted

if TYPE_CHECKING:
    from bertsmith.tasks.reading import Labelled

Label: TypeAlias = str | float
"""What a file says of an example: a name or a number."""

Texts: TypeAlias = str | tuple[str, str]
"""The input of one prediction: a text or a pair of texts."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one text or pair.

    Classification sets `label` and `probabilities` (of every label, adding up to 1), regression sets `score`. `truncated`
    is how many tokens did not fit into the model and were not read.
    """

    label: str | None = None
    score: float | None = None
    probabilities: Mapping[str, float] | None = None
    truncated: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON: only what is set, and `truncated`."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class LabelScores:
    """How one label fares. `count` is how many examples have it."""

    precision: float
    recall: float
    f1: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Predictions compared with the truth.

    `metrics` by name. For classification also `labels`, `confusion[true][predicted]`, scores of each label, and
    `majority`: the accuracy of always giving the most frequent label of these examples. `truncated` counts the texts that
    did not fit into the model.
    """

    count: int
    metrics: dict[str, float]
    truncated: int = 0
    labels: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] | None = None
    label_scores: dict[str, LabelScores] | None = None
    majority: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None and value != ()}


class Task(Part):
    """One kind of thing to predict. `metric_names` are what an evaluation tells; the first one picks the best epoch."""

    wanted: ClassVar[Wanted]
    metric_names: ClassVar[tuple[str, ...]]

    @classmethod
    def read_label(cls, value: Any) -> Label:
        """A label as a file holds it. ValueError with what is wrong, if it is no label of this task."""
        raise NotImplementedError

    @classmethod
    def learn(cls, train: "Labelled") -> "Task":
        """The task that these training examples set. DataError if nothing can be learned from them."""
        raise NotImplementedError

    def check(self, labelled: "Labelled") -> None:
        """DataError if an example has a label that the task does not know."""

    def objective(self) -> Objective:
        """What the model is trained for; its kind is the name of the head."""
        raise NotImplementedError

    def targets(self, label: Label) -> dict[str, int | float]:
        """What the objective wants to know of an example with this label."""
        raise NotImplementedError

    def scores(self, model: Model, inputs: Batch) -> Tensor:
        """What the head says, float32, one row a text: (texts, scores a text)."""
        pooled = model(inputs).pooled
        assert pooled is not None, "a model with a sequence head has a pooler"
        return model.heads[self.objective().kind](pooled).float()

    def predictions(self, scores: np.ndarray, truncated: np.ndarray) -> list[Prediction]:
        """From the head's scores, float32 (texts, scores a text), and the tokens cut from each text (texts,)."""
        raise NotImplementedError

    def evaluate(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> Evaluation:
        """Compare predictions with labels that were checked."""
        raise NotImplementedError

    def is_collapsed(self, truth: Sequence[Label], predictions: Sequence[Prediction]) -> bool:
        """Whether the model says the same of everything, although not everything is the same."""
        raise NotImplementedError

    def finish(self, model: Model) -> "Task":
        """Make the trained head give its predictions in the end user's units; the task that goes with it."""
        return self


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
