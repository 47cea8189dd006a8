"""What can be seen in one series of numbers: spikes, a slow stretch, a rise at the end. Robust, so that noise is no symptom.

Every function takes `values` `(lines,)` in order and answers with indices into them, or None where there is nothing to see.
"""

from dataclasses import dataclass

import numpy as np

_BEFORE = 31  # lines whose median says what was to be expected of the next one


@dataclass(frozen=True)
class Stretch:
    """A run of neighbouring lines, `first` to `last` (included), and their median beside the usual one."""

    first: int
    last: int
    median: float
    usual: float


def expected(values: np.ndarray, before: int = _BEFORE) -> np.ndarray:
    """For each value the median of the up to `before` values ahead of it; for the first one itself."""
    if len(values) <= 1:
        return values.copy()
    padded = np.concatenate((np.full(before, np.nan), values))
    windows = np.lib.stride_tricks.sliding_window_view(padded, before)[: len(values)]
    medians = np.nanmedian(windows[1:], axis=1)
    return np.concatenate((values[:1], medians))


def spikes(values: np.ndarray, *, score: float = 8.0, least: float = 0.3, smooth: int = 3) -> list[int]:
    """Where values leap above what the ones before let expect: one index for each leap, that of its highest value.

    A leap is `score` robust standard deviations (1.4826 times the median absolute deviation) and at least `least`, in the mean
    of `smooth` neighbouring values, so that one unlucky batch is none. The first values have nothing ahead of them and are
    not judged.
    """
    if len(values) < 2 * _BEFORE:
        return []
    excess = values - expected(values)
    smoothed = np.convolve(excess, np.ones(smooth) / smooth, mode="same")
    deviation = 1.4826 * float(np.median(np.abs(smoothed - np.median(smoothed))))
    high = smoothed > max(score * deviation, least)
    high[: _BEFORE // 3] = False
    found = []
    for first, last in _runs(high, apart=_BEFORE):
        found.append(first + int(np.argmax(values[first : last + 1])))
    return found


def slow_stretch(values: np.ndarray, *, drop: float = 0.7, share: float = 0.1) -> Stretch | None:
    """The longest stretch whose medians lie below `drop` times the usual, after a beginning that was as usual.

    Medians over windows, so that single slow steps (a checkpoint, a neighbour on the machine) count for nothing; the usual is
    the median of the upper half of them. A stretch of fewer than three windows or less than `share` of all is none.
    """
    if len(values) < 60:
        return None
    parts = np.array_split(np.arange(len(values)), min(50, len(values) // 10))
    medians = np.array([np.median(values[part]) for part in parts])
    usual = float(np.median(medians[medians >= np.median(medians)]))
    slow = medians < drop * usual
    slow[: int(np.argmin(slow))] = False  # slow from the beginning: it became faster, nothing dropped
    stretches = [run for run in _runs(slow, apart=1) if run[1] - run[0] + 1 >= max(3, share * len(medians))]
    if not stretches:
        return None
    first, last = max(stretches, key=lambda run: run[1] - run[0])
    lines = slice(int(parts[first][0]), int(parts[last][-1]) + 1)
    return Stretch(lines.start, lines.stop - 1, float(np.median(values[lines])), usual)


def rise_at_end(values: np.ndarray) -> tuple[int, float, float] | None:
    """Where the values were lowest (middle of that window), their median there and at the end, if the end is higher.

    In windows of a twentieth of the values; None with fewer than 100, or where noise explains the difference: the median
    of n values errs by 1.25 / sqrt(n) of what a single one does, and the lowest of twenty windows is a lucky one.
    """
    if len(values) < 100:
        return None
    parts = np.array_split(np.arange(len(values)), 20)
    medians = np.array([np.median(values[part]) for part in parts])
    lowest = int(np.argmin(medians))
    single = 1.4826 * float(np.median(np.abs(np.diff(values)))) / np.sqrt(2)
    if medians[-1] - medians[lowest] <= 5 * 1.25 * single / np.sqrt(len(parts[-1])):
        return None
    return int(parts[lowest].mean()), float(medians[lowest]), float(medians[-1])


def gaps(steps: np.ndarray) -> list[tuple[int, int]]:
    """Places where steps are missing, as the (last step before, first step after); the usual distance may change once."""
    distance = np.diff(steps)
    found = []
    for index in range(1, len(distance)):
        after = distance[index + 1] if index + 1 < len(distance) else 0
        if distance[index] > 1.5 * max(distance[index - 1], after, 1) and distance[index - 1] > 0:
            found.append((int(steps[index]), int(steps[index + 1])))
    return found


def repeats(steps: np.ndarray) -> list[int]:
    """Steps that come again, or come after a later one."""
    if len(steps) < 2:
        return []
    highest = np.maximum.accumulate(steps)[:-1]
    return steps[1:][steps[1:] <= highest].tolist()


def _runs(flags: np.ndarray, *, apart: int) -> list[tuple[int, int]]:
    """First and last index of each run of True; runs fewer than `apart` places from each other are one."""
    runs: list[tuple[int, int]] = []
    for index in np.flatnonzero(flags).tolist():
        if runs and index - runs[-1][1] <= apart:
            runs[-1] = runs[-1][0], index
        else:
            runs.append((index, index))
    return runs
