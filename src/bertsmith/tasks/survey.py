"""What is in the files, told before training starts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bertsmith.tasks.reading import Labelled, LabelledText
from bertsmith.tasks.task import Label, Task
from bertsmith.tasks.words import Words
from bertsmith.text.windows import Extent

_LISTED_LABELS = 12


@dataclass(frozen=True, kw_only=True)
class FileSurvey:
    """One file of examples.

    `columns` says how they were understood. `labels` counts each label, of tagging each tag, most frequent first (None for
    regression); `numbers` are the lowest, mean and highest number (None elsewhere). `empty` examples have no text. `tokens`
    are lengths with special tokens: median, p90, p99, longest. `too_long` texts are over the limit, and `windows` is how many
    windows they are read in; of `truncated` ones, pairs of two long texts, a part is not read.
    """

    path: str
    columns: str
    count: int
    labels: dict[str, int] | None
    numbers: tuple[float, float, float] | None
    empty: int
    tokens: dict[str, int]
    too_long: int
    windows: int
    truncated: int

    @property
    def majority(self) -> float | None:
        """The share of the most frequent label."""
        return max(self.labels.values()) / sum(self.labels.values()) if self.labels else None


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Training and dev file. `duplicates` counts the dev examples whose texts are in the training file too, apart from
    case and white space; `contradictions` those of them whose label differs there. `max_length` is in tokens."""

    train: FileSurvey
    dev: FileSurvey
    duplicates: int
    contradictions: int
    max_length: int

    def lines(self) -> list[str]:
        """For people: a few lines, warnings last."""
        said = [line for name, file in (("train", self.train), ("dev", self.dev)) for line in self._about(name, file)]
        if self.duplicates:
            other = f", {self.contradictions:,} of them with another label" if self.contradictions else ""
            said.append(
                f"Warning: {self.duplicates:,} of {self.dev.count:,} dev texts are in the training file too{other}. "
                "Scores on dev will be too good."
            )
        return said

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def _about(self, name: str, file: FileSurvey) -> list[str]:
        lengths = ", ".join(f"{which} {count:,}" for which, count in file.tokens.items())
        lines = [f"{name}: {file.count:,} examples in {file.path}; {file.columns}", f"  tokens: {lengths}"]
        if file.labels is not None:
            total = sum(file.labels.values())
            shares = [f"{label} {count:,} ({count / total:.0%})" for label, count in file.labels.items()]
            more = f" and {len(shares) - _LISTED_LABELS} more" if len(shares) > _LISTED_LABELS else ""
            lines.append(f"  labels: {', '.join(shares[:_LISTED_LABELS])}{more}")
        if file.numbers is not None:
            low, mean, high = file.numbers
            lines.append(f"  numbers: {low:g} to {high:g}, mean {mean:.4g}")
        if file.empty:
            lines.append(f"  Warning: {file.empty:,} examples have no text.")
        if file.too_long:
            lines.append(
                f"  Warning: {file.too_long:,} texts are over {self.max_length} tokens and are read in windows, "
                f"{file.windows:,} in all."
            )
        if file.truncated:
            lines.append(f"  Warning: of {file.truncated:,} pairs both texts are long, and the end of one is not read.")
        return lines


def survey(
    task: Task,
    train: Labelled,
    dev: Labelled,
    train_extents: Sequence[Extent],
    dev_extents: Sequence[Extent],
    limit: int,
) -> Survey:
    """Look at both files, whose windows have at most `limit` tokens."""
    known: dict[tuple[str, ...], set[Label]] = {}
    for example in train.examples:
        known.setdefault(_folded(example), set()).add(example.label)
    found = [(known[key], e.label) for e in dev.examples if (key := _folded(e)) in known]
    return Survey(
        train=_look(task, train, train_extents),
        dev=_look(task, dev, dev_extents),
        duplicates=len(found),
        contradictions=sum(label not in labels for labels, label in found),
        max_length=limit,
    )


def _look(task: Task, labelled: Labelled, extents: Sequence[Extent]) -> FileSurvey:
    lengths = np.array([one.tokens for one in extents])
    names = [name for label in labelled.labels for name in task.names(label)]
    numbers = [label for label in labelled.labels if isinstance(label, float)]
    long = [one for one in extents if one.is_long]
    return FileSurvey(
        path=str(labelled.path),
        columns=str(labelled.layout),
        count=len(labelled.examples),
        labels=dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))) if names else None,
        numbers=(min(numbers), float(np.mean(numbers)), max(numbers)) if numbers else None,
        empty=sum(not any(_folded(example)) for example in labelled.examples),
        tokens={
            "median": int(np.median(lengths)),
            "p90": int(np.percentile(lengths, 90)),
            "p99": int(np.percentile(lengths, 99)),
            "longest": int(lengths.max()),
        },
        too_long=len(long),
        windows=sum(one.windows for one in long),
        truncated=sum(one.is_cut for one in extents),
    )


def _folded(example: LabelledText) -> tuple[str, ...]:
    texts = example.texts.text if isinstance(example.texts, Words) else example.texts
    texts = (texts,) if isinstance(texts, str) else texts
    return tuple(" ".join(text.casefold().split()) for text in texts)
