"""The course of a run: masks, speed, losses, gradients and learning rates from step to step."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertsmith.history import History, Series
from bertsmith.train.doctor import symptoms
from bertsmith.train.doctor.finding import Case, Finding, count, some, spoken


def schedule_fits(case: Case) -> Iterator[Finding]:
    """Warm-up that never ends, a learning rate that is still high at the end."""
    history = case.history
    for number, stage in enumerate(history.stages):
        warmup, steps = stage.get("schedule", {}).get("warmup_steps", 0), stage.get("steps")
        if isinstance(warmup, int) and isinstance(steps, int) and warmup > steps / 2:
            endless = warmup >= steps
            yield Finding(
                "schedule",
                "wrong" if endless else "odd",
                f"Stage {number} warms up for {warmup:,} of its {steps:,} steps.",
                "The learning rate never comes down from its peak."
                if endless
                else "Most of the stage is spent below its learning rate.",
                f"Set stages.{number}.schedule.warmup_steps to a tenth of the steps or less.",
            )
            if endless:
                return
    rates = history.series("learning_rate").values
    if history.kind != "pretraining" or not history.is_finished or not len(rates):
        return
    kind = history.stages[-1].get("schedule", {}).get("kind") if history.stages else None
    if rates[-1] > 0.5 * rates.max() and kind != "constant":
        yield Finding(
            "schedule",
            "odd",
            f"The learning rate ends at {rates[-1]:.2g}, {rates[-1] / rates.max():.0%} of its highest ({rates.max():.2g}).",
            "The last stretch at a falling rate is worth much: the loss drops there more than anywhere since the beginning.",
            "Let the last stage's schedule end near 0. A run can be continued with --from for that.",
        )


def masks_are_as_asked(case: Case) -> Iterator[Finding]:
    """What was masked, and paired, against what the recipe asks for, beyond rounding and sampling error."""
    history = case.history
    for row in mask_figures(history):
        if abs(row.found - row.asked) > row.tolerance:
            yield Finding(
                "masking",
                "wrong",
                f"Stage {row.stage}, {row.what}: {row.found:.2%}, where the recipe asks for {row.asked:.2%}; chance and "
                f"rounding explain {row.tolerance:.2%}.",
                "The run trains on something else than its recipe says, so its figures do not compare with others'.",
                "See the masking policy or the pairing of that stage; with few documents random pairs can be scarce.",
            )


@dataclass(frozen=True)
class MaskFigure:
    """A share of a stage as found over its logged steps, as asked for, and how far chance and rounding may take it."""

    stage: int
    what: str
    found: float
    asked: float
    tolerance: float


def mask_figures(history: History) -> list[MaskFigure]:
    """What masking and pairing did, by stage, beside what the recipe asks for. Shares between 0 and 1."""
    rows = []
    for number, stage in enumerate(history.stages):
        masking, tokens = stage.get("masking"), history.series("tokens", stage=number)
        chosen = history.series("masking", "chosen", stage=number)
        if not len(chosen) or len(chosen) != len(tokens):
            continue
        if masking and isinstance(masking.get("rate"), float) and tokens.values.sum():
            rows += _masked(history, number, stage, tokens, chosen)
        wanted = stage.get("instances", {}).get("random_next_rate")
        pairs = history.series("train", "next_sentence", "count", stage=number).values
        random_next = history.series("masking", "random_next", stage=number).values
        if isinstance(wanted, float) and len(pairs) == len(random_next) and pairs.sum():
            found = float((random_next * pairs).sum() / pairs.sum())
            # A document's last piece has nothing to follow it and gets a random one, whatever was drawn: hence 5 %.
            rows.append(
                MaskFigure(
                    number, "second sentences that are random", found, wanted, 0.05 + _error(wanted, pairs.sum())
                )
            )
    return rows


def _masked(history: History, number: int, stage: dict[str, Any], tokens: Series, chosen: Series) -> list[MaskFigure]:
    masking = stage["masking"]
    first, steps = _begin(history, number), stage.get("steps") or int(chosen.steps[-1])
    last_rate = masking["rate"] if masking.get("final_rate") is None else masking["final_rate"]
    asked = masking["rate"] + (last_rate - masking["rate"]) * np.clip((chosen.steps - first) / steps, 0, 1)
    total, weights = float(tokens.values.sum()), tokens.values
    predicted = float((chosen.values * weights).sum())
    # Each sequence rounds its own number; word by word the last word may not fit.
    sequences = stage.get("batch_size")
    length = total / (len(tokens) * sequences) if isinstance(sequences, int) else 20.0
    rounding = (1.0 if masking.get("choice", {}).get("kind") == "single_tokens" else 3.0) / max(length, 1.0)
    rows = [
        MaskFigure(
            number,
            "tokens chosen for prediction",
            predicted / total,
            float((asked * weights).sum() / total),
            rounding + _error(masking["rate"], total),
        )
    ]
    mask, random = masking.get("mask_rate"), masking.get("random_rate")
    if isinstance(mask, float) and isinstance(random, float) and predicted:
        for key, wanted, what in (
            ("masked", mask, "chosen tokens hidden by [MASK]"),
            ("random", random, "chosen tokens replaced by a random one"),
            ("kept", 1 - mask - random, "chosen tokens left as they are"),
        ):
            values = history.series("masking", key, stage=number).values
            found = float((values * chosen.values * weights).sum() / predicted)
            # A random token can be the right one by chance, and counts as kept then: hence half a percent.
            rows.append(MaskFigure(number, what, found, max(0.0, wanted), 0.005 + _error(wanted, predicted)))
    return rows


def _error(share: float, number: float) -> float:
    """Four standard errors of a share among `number`."""
    return 4 * math.sqrt(max(share * (1 - share), 1e-9) / max(number, 1))


def _begin(history: History, stage: int) -> int:
    """The step before a stage's first."""
    return sum(one.get("steps") or 0 for one in history.stages[:stage])


def speed_is_even(case: Case) -> Iterator[Finding]:
    """A minute or more at less than 70 % of the usual speed; turbo clocks and passing load stay above that."""
    for where in case.history.segments:
        speed = case.history.speed(**where)
        slow = symptoms.slow_stretch(speed.values)
        if slow is None:
            continue
        first, last = int(speed.steps[slow.first]), int(speed.steps[slow.last])
        seconds = case.history.series("seconds", **where).between(first, last).values
        if (last - first) * float(np.median(seconds)) < 60:
            continue
        until = "to the end" if slow.last == len(speed) - 1 else f"to step {last:,}"
        yield Finding(
            "throughput",
            "odd",
            f"From step {first:,} {until}, {slow.median:,.0f} tokens a second were trained, {slow.median / slow.usual:.0%} of "
            f"the usual {slow.usual:,.0f}.",
            "The work of a step stays the same, so something else used the machine, or the data came too slowly.",
            "See what else ran at that time, whether memory was swapped, and whether the processor was throttled by heat.",
        )


def loss_is_smooth(case: Case) -> Iterator[Finding]:
    """Leaps of the training loss, and a loss that went up and stayed there."""
    history = case.history
    for where in history.segments:
        for name in history.objectives():
            series = history.series("train", name, "loss", **where)
            if not np.isfinite(series.values).all():
                continue
            leaps = symptoms.spikes(series.values)
            if leaps:
                highest = max(leaps, key=lambda index: series.values[index])
                usual = float(symptoms.expected(series.values)[highest])
                yield Finding(
                    "spikes",
                    "odd",
                    f"The training loss of {spoken(name)} leapt up {count(len(leaps), 'time')}: at step "
                    f"{some([int(series.steps[index]) for index in leaps])}; the highest to {series.values[highest]:.2f} "
                    f"from {usual:.2f}.",
                    "Each leap undoes some of the training, and one of them may not come back.",
                    "Lower the peak of the learning rate or the clip norm, or warm up longer. See the text at those steps.",
                )
            rise = symptoms.rise_at_end(series.values) if name in case.language_models else None
            if rise is not None and rise[2] > rise[1] + max(0.3, 0.1 * rise[1]):
                at, low, high = rise
                yield Finding(
                    "diverged",
                    "wrong",
                    f"The training loss of {spoken(name)} was {low:.2f} around step {series.steps[at]:,} and is {high:.2f} at "
                    "the end.",
                    "It went up and stayed there: the weights left the region where they had learned something.",
                    "Go back to a checkpoint from before and lower the learning rate.",
                )


def gradients_are_sound(case: Case) -> Iterator[Finding]:
    """Gradient norms that explode, vanish, or leap."""
    for where in case.history.segments:
        norms = case.history.series("gradient_norm", **where)
        norms = Series(norms.steps[np.isfinite(norms.values)], norms.values[np.isfinite(norms.values)])
        if len(norms) < 40:
            continue
        usual, end = float(np.median(norms.values)), float(np.median(norms.values[-max(10, len(norms) // 20) :]))
        if end > 10 * usual:
            yield Finding(
                "gradients",
                "wrong",
                f"Gradient norms end at {end:.3g}; over the whole stage their median is {usual:.3g}.",
                "They explode. Clipping hides it, while the direction of each step becomes that of a few examples.",
                "Lower the learning rate, warm up longer, or use a pre-norm encoder if it is deep.",
            )
        elif end < max(1e-3 * usual, 1e-6):
            yield Finding(
                "gradients",
                "wrong",
                f"Gradient norms end at {end:.3g}; over the whole stage their median is {usual:.3g}.",
                "They vanish: the weights hardly change any more.",
                "See whether the loss is at 0 or stuck; lower the learning rate and go on from an older checkpoint.",
            )
        leaps = np.flatnonzero(norms.values > 10 * symptoms.expected(norms.values))
        leaps = leaps[leaps >= 10]
        if len(leaps) and end <= 10 * usual:
            yield Finding(
                "gradients",
                "odd",
                f"The gradient norm was more than ten times the usual at {count(len(leaps), 'logged step')}: "
                f"{some(norms.steps[leaps].tolist())}; at most {norms.values[leaps].max():.3g}.",
                "Clipping bounds such steps, but they still go in the direction of a few strange examples.",
                "Look at the text at those steps: tables, one character repeated, another language.",
            )


def rows_are_full(case: Case) -> Iterator[Finding]:
    """Work on padding."""
    fill = case.history.series("fill").values
    if len(fill) and fill.mean() < 0.7:
        yield Finding(
            "fill",
            "odd",
            f"Only {fill.mean():.0%} of the positions that were computed are text; the others are padding.",
            "A third of the time or more is spent on nothing.",
            "Choose a length nearer to that of the text, or a larger batch, which packs better.",
        )
