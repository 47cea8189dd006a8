"""What was learned: losses against what they are worth, training against held-out text, and what was trained on."""

import json
import math
from collections.abc import Iterator

import numpy as np

from bertsmith.history import History, Series
from bertsmith.train.doctor.finding import Case, Finding, count, some, spoken
from bertsmith.train.state import saved_states


def heldout_text_is_there(case: Case) -> Iterator[Finding]:
    """A pretraining run without any look at held-out text."""
    if case.history.kind == "pretraining" and case.history.training and not case.history.objectives("heldout"):
        yield Finding(
            "heldout",
            "odd",
            "The log has no held-out figure.",
            "Nobody can tell learning from remembering by the training loss alone.",
            "Prepare the text with --heldout 0.01, or a few thousand sentences at least.",
        )


def language_is_learned(case: Case) -> Iterator[Finding]:
    """The loss against that of who knows nothing, or the tokens' frequencies alone; and against what is plausible."""
    for name in case.language_models:
        final = case.final(name)
        if final is None or case.is_young or not math.isfinite(final[0]):
            continue
        loss, which = final
        what = f"The {which} loss of {spoken(name)} is {loss:.2f} nats at step {case.history.last_step:,}"
        unigram, uniform = case.references.get("unigram"), case.references.get("uniform")
        if uniform is not None and loss > uniform - 0.1 * (uniform - (unigram or uniform - 3)):
            yield Finding(
                "unigram",
                "wrong",
                f"{what}; a blind guess among all tokens costs {uniform:.2f}.",
                "Nothing was learned at all, not even which tokens are frequent.",
                "Raise the learning rate, or train longer than a few hundred steps. See that the labels are not cut off.",
            )
        # Unigram is measured on held-out text as a whole; a tenth of a nat is what the choice of masked places may differ by.
        elif unigram is not None and loss > unigram - 0.1:
            values = case.history.series("train", name, "loss").values
            parts = np.array_split(values, 4)
            flat = len(values) >= 40 and abs(np.median(parts[2]) - np.median(parts[3])) < 0.05
            yield Finding(
                "unigram",
                "wrong",
                f"{what}; knowing how frequent each token is, and nothing else, costs {unigram:.2f}. "
                + ("It has not moved in the last half of the run." if flat else "It is still falling."),
                "The encoder does not use context. Its vectors are no better than counts of words."
                if flat
                else "The encoder has not begun to use context.",
                "Nearly always the learning rate: try a third and three times of it, with warm-up; else train longer."
                if flat
                else "Train longer: the loss often stays near this level for some thousand steps, then falls.",
            )
        # The best published encoders end above 1 nat on ordinary text (large, 15 % masked); half of that is copying.
        elif loss < 0.5:
            yield Finding(
                "too_good",
                "odd",
                f"{what}, lower than any encoder reaches on ordinary text (about 1.2 to 2).",
                "Either the text repeats itself (logs, tables, templates), or the answer can be seen in the input.",
                "Look for duplicates with prepare's report. If masking is your own, see that it hides what is asked for.",
            )


def splits_agree(case: Case) -> Iterator[Finding]:
    """Held-out loss far above training (over-fitting), or below what masking and dropout explain (a leak)."""
    history = case.history
    for name in case.language_models:
        where = history.segments[-1] if history.segments else {}
        heldout, train = history.series("heldout", name, "loss", **where), case.recent(name)
        if train is None or len(heldout) < 2 or case.is_young:
            continue
        last, lowest = float(heldout.values[-1]), int(np.argmin(heldout.values))
        low, at = float(heldout.values[lowest]), int(heldout.steps[lowest])
        if last > low + max(0.05, 0.02 * low) and last > train + 0.3:
            yield Finding(
                "overfitting",
                "wrong",
                f"Held-out {spoken(name)} was best at step {at:,} ({low:.2f} nats) and has risen to {last:.2f}, while "
                f"training stands at {train:.2f}.",
                "The encoder learns its text by heart: every further step makes it worse on other text.",
                "Use more text or fewer steps, dropout 0.1, or a smaller encoder.",
            )
        elif last > train + 1:
            yield Finding(
                "overfitting",
                "odd",
                f"The held-out loss of {spoken(name)} ({last:.2f} nats) is far above training ({train:.2f}).",
                "Either the encoder begins to learn its text by heart, or the held-out text is of another kind.",
                "See that both come from the same sources. Watch whether the held-out loss still falls.",
            )
        # Training hides more (its own rate) and drops out, held-out is at 15 % without: that much lower it may be.
        elif last < train - _allowance(history):
            yield Finding(
                "leak",
                "odd",
                f"The held-out loss of {spoken(name)} ({last:.2f} nats) is {train - last:.2f} below training ({train:.2f}), "
                f"more than masking and dropout explain (about {_allowance(history):.1f}).",
                "Held-out text may stand in the training text too, or be much easier.",
                "See prepare's figures for what training and held-out text share. Split by source instead of by document.",
            )


def _allowance(history: History) -> float:
    """By how many nats held-out text may be easier than training: it is masked at 15 % and without dropout."""
    rates = [
        (stage.get("masking") or {}).get("final_rate") or (stage.get("masking") or {}).get("rate")
        for stage in history.stages
    ]
    rate = rates[-1] if rates and isinstance(rates[-1], float) else 0.15
    return 0.5 + 3 * max(0.0, rate - 0.15)


def shards_are_sound(case: Case) -> Iterator[Finding]:
    """What the shards' manifest says of text that stands on both sides, and of words that cannot be spelled."""
    statistics = (case.manifest or {}).get("statistics") or {}
    leaks = statistics.get("leaks") or {}
    heldout = leaks.get("heldout_documents", 0)
    leaked = leaks.get("copies", 0) + leaks.get("nearly_copies", 0) + leaks.get("half_or_more", 0)
    if leaked and not leaks.get("training_documents_left_out"):
        yield Finding(
            "leak",
            "wrong" if leaked > 0.05 * heldout else "odd",
            f"{leaked:,} of {heldout:,} held-out documents stand in the training text too, whole or by half.",
            "Held-out figures are better than what the encoder can do with new text.",
            "Prepare the text again and leave out what leaks (prepare's option for leaks), then train again.",
        )
    if (unknown := statistics.get("unknown_rate", 0.0)) > 0.01:
        yield Finding(
            "unknown",
            "odd",
            f"{unknown:.1%} of the words of the text are [UNK]: the vocabulary cannot spell them.",
            "Nothing can be learned about them, and all of them look alike.",
            "Learn a vocabulary from this text, with its whole alphabet, or see whether the text is of another language.",
        )


def next_sentences_are_learned(case: Case) -> Iterator[Finding]:
    """Next sentence solved before language is learned (a short cut in the data), or not learned at all."""
    name = "next_sentence"
    history = case.history
    solved = _solved_at(history, name)
    if solved is not None:
        step, accuracy = solved
        language = [v for lm in case.language_models if (v := _value_at(history.series("train", lm, "loss"), step))]
        unigram = case.references.get("unigram")
        early = step <= max(200, 0.05 * (history.steps or history.last_step))
        if early or (unigram is not None and language and min(language) > unigram - 0.3):
            loss = f", while the token loss was still {min(language):.2f} nats" if language else ""
            yield Finding(
                "next_sentence",
                "wrong",
                f"Next sentence was solved at once: {accuracy:.0%} right by step {step:,}{loss}.",
                "An encoder that does not know its words yet cannot tell which sentence follows. Something else in the data "
                "gives it away: lengths, file names, headings, one source for all second halves.",
                "Look at pairs of both kinds. Prepare documents so that each mixes what all have in common.",
            )
            return
    final, counts = case.final(name, "accuracy"), history.series("heldout", name, "count").values
    if final is None or case.is_young:
        return
    shares = history.series("masking", "random_next").values
    majority = max(float(shares.mean()), 1 - float(shares.mean())) if len(shares) else 0.5
    error = math.sqrt(majority * (1 - majority) / counts[-1]) if len(counts) and counts[-1] else 0.0
    if final[0] < majority + max(0.05, 3 * error):
        yield Finding(
            "next_sentence",
            "odd",
            f"Next sentence is at {final[0]:.1%} ({final[1]}); always giving the more frequent answer gets {majority:.1%}.",
            "The task was hardly learned. What the encoder knows comes from the other objective; [CLS] got little of it.",
            "It is learned late, after the masked LM. Train longer, or drop the objective, which costs little.",
        )


def _solved_at(history: History, name: str) -> tuple[int, float] | None:
    """The first step at which 500 predictions before it, or as many held-out ones, were right to 95 %; and that share."""
    heldout, counts = history.series("heldout", name, "accuracy"), history.series("heldout", name, "count")
    found = [
        (int(step), float(value))
        for step, value, asked in zip(heldout.steps, heldout.values, counts.values, strict=False)
        if value >= 0.95 and asked >= 100
    ][:1]
    train, counts = history.series("train", name, "accuracy"), history.series("train", name, "count")
    if len(train) == len(counts) and len(train):
        right, total = np.cumsum(train.values * counts.values), np.cumsum(counts.values)
        start = np.searchsorted(total, total - 500, side="left")
        enough = total >= 500
        share = (right - np.where(start > 0, right[start - 1], 0)) / np.maximum(
            1, total - np.where(start > 0, total[start - 1], 0)
        )
        good = np.flatnonzero(enough & (share >= 0.95))
        found += [(int(train.steps[good[0]]), float(share[good[0]]))] if len(good) else []
    return min(found, default=None)


def text_is_enough(case: Case) -> Iterator[Finding]:
    """More than 40 times over the same text, which is what BERT itself did (Devlin et al. 2018, §A.2)."""
    states = saved_states(case.history.path)
    try:
        epoch = (
            json.loads((states[-1] / "state.json").read_text(encoding="utf-8"))["position"]["epoch"] if states else 0
        )
    except (OSError, ValueError, KeyError, TypeError):
        return  # damaged: that is told elsewhere
    if epoch > 40:
        yield Finding(
            "epochs",
            "odd",
            f"The text was read {epoch:,} times.",
            "From a few readings on each one brings less, and from about 40 on the encoder learns the text by heart.",
            "Use more text, fewer steps, or a smaller encoder. The best held-out loss says where to stop.",
        )


def tuning_worked(case: Case) -> Iterator[Finding]:
    """Fine-tuning: seeds that collapsed to one answer, and a score that is not above the majority's."""
    result = next((line["result"] for line in reversed(case.history.lines) if "result" in line), None)
    if not isinstance(result, dict):
        return
    if collapsed := result.get("collapsed"):
        yield Finding(
            "collapsed",
            "wrong",
            f"{count(len(collapsed), 'run')} of {len(result.get('runs', []))} give one answer to everything: seeds "
            f"{some(collapsed)}.",
            "They learned nothing of the task. The mean is over the others.",
            "Lower the learning rate, train more epochs, or label more examples.",
        )
    dev = result.get("best", {}).get("dev", {})
    score, majority = dev.get("metrics", dev).get("accuracy"), dev.get("majority")
    if isinstance(score, float) and isinstance(majority, float) and score <= majority:
        yield Finding(
            "majority",
            "wrong",
            f"The best accuracy is {score:.1%}; always giving the most frequent label gets {majority:.1%}.",
            "The model is of no use for this task.",
            "See that texts and labels stand in the right columns. Label more examples, or begin from a better encoder.",
        )


def _value_at(series: Series, step: int) -> float | None:
    """Mean of the values around a step."""
    if not len(series):
        return None
    near = int(np.searchsorted(series.steps, step))
    return float(series.values[max(0, near - 3) : near + 4].mean())
