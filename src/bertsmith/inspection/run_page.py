"""The report of any run, finished or not: one page that opens offline.

It shows what the run wrote down (`bertsmith.history`): curves against reference lines, speed, masks, lengths, guesses, events,
and what was trained. What the doctor found and how the masks compare with the recipe is handed in, as plain values.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertsmith.history import History, Series, averaged
from bertsmith.inspection import page as pages
from bertsmith.inspection.charts import Curve, Reference, histogram, loss_curves
from bertsmith.inspection.markup import Html, element, join
from bertsmith.inspection.page import Section, section
from bertsmith.inspection.wording import amount, duration, percent

_POINTS = 250  # of a curve that is drawn from more: one for every other pixel
_SMOOTH = 100  # of a training curve, so that it tells more than the luck of each batch
_COLUMNS = 5  # of guesses, of steps at even distances


@dataclass(frozen=True, kw_only=True)
class RunStory:
    """All that a run's page shows.

    Attributes:
        history: what the run wrote.
        references: losses in nats of who has learned nothing, by name: uniform, unigram.
        findings: what the doctor says: check, severity, seen, why, advice.
        masks: (what, share found, share asked for, how far chance may take it), for each stage in turn.
    """

    history: History
    references: Mapping[str, float]
    findings: Sequence[Mapping[str, str]]
    masks: Sequence[tuple[str, float, float, float]] = ()


def render(story: RunStory) -> str:
    """The report as one HTML document.

    Raises:
        MissingExtra: the extra `inspect` is not installed.
    """
    history = story.history
    sections: list[Section | Html] = []
    if history.training:
        sections.append(_key_numbers(story))
    sections.append(_diagnosis(story.findings))
    for part in (_losses(story), _scores(history), _course(history), _speed(history), _masks(story), _lengths(history)):
        if part is not None:
            sections.append(part)
    for part in (_guesses(history), _events(history)):
        if part is not None:
            sections.append(part)
    sections.append(_trained(history))
    return pages.page(_title(history), lead=_lead(history), sections=sections, footer=f"Run folder: {history.path}")


def _title(history: History) -> str:
    if history.kind == "finetuning":
        return f"Fine-tuning: {(history.record.get('task') or {}).get('kind', 'a task')}"
    return f"Pretraining: {(history.record.get('recipe') or {}).get('name', 'a run')}"


def _lead(history: History) -> Html:
    of = f" of {history.steps:,}" if history.steps and not history.is_finished else ""
    state = "Finished" if history.is_finished else "Not finished"
    tokens, seconds = history.total("tokens"), history.total("seconds")
    trained = f" {amount(round(tokens))} tokens in {duration(seconds)} of training." if tokens else ""
    return join(element("strong", f"{state}: step {history.last_step:,}{of}."), trained)


def _key_numbers(story: RunStory) -> Html:
    history = story.history
    numbers: list[tuple[str, str, str]] = []
    for name in history.objectives():
        split = "heldout" if len(history.series("heldout", name, "loss")) else "train"
        text = "on held-out text" if split == "heldout" else "on training text"
        loss, right = history.series(split, name, "loss"), history.series(split, name, "accuracy")
        if name.endswith("_lm") and len(loss) and np.isfinite(loss.values[-1]):
            choice = f"as unsure as among {math.exp(min(loss.values[-1], 50)):,.0f} tokens"
            numbers.append((f"{loss.values[-1]:.2f}", f"nats, loss of {_spoken(name)} {text}", choice))
        if len(right) and math.isfinite(right.values[-1]):
            numbers.append((percent(right.values[-1]), f"{_asked(name)} {text}", ""))
    for name in _dev_names(history):
        values = history.series("dev", name).values
        numbers.append((f"{values.max():.3f}", f"best {name} on the dev file", ""))
    speed = history.speed()
    if len(speed):
        numbers.append((f"{np.median(speed.values):,.0f}", "tokens a second, the median", ""))
    spent = f"in {duration(history.total('seconds'))}, without looks at held-out text"
    numbers.append((amount(round(history.total("tokens"))), "tokens trained on", spent))
    return pages.key_numbers(numbers[:6])


def _diagnosis(findings: Sequence[Mapping[str, str]]) -> Section:
    if not findings:
        return section("What the doctor says", pages.paragraph("Nothing wrong was found, and nothing odd."))
    notes = [
        element(
            "div",
            element("p", element("strong", f"{finding['severity'].capitalize()}. "), finding["seen"]),
            element("p", finding["why"], " ", finding["advice"], class_="quiet"),
            class_=f"finding {finding['severity']}",
        )
        for finding in findings
    ]
    return section("What the doctor says", *notes)


def _losses(story: RunStory) -> Section | None:
    history = story.history
    drawn: list[Html] = []
    for name in history.objectives():
        lines = ()
        if name.endswith("_lm"):
            words = {"uniform": "blind guess", "unigram": "frequencies"}
            lines = tuple(Reference(words.get(key, key), value) for key, value in story.references.items())
        elif name == "next_sentence":
            lines = (Reference("coin", math.log(2)),)
        height = 280 if not drawn else 180
        found = _pair(history, name, "loss")
        if found:
            label = f"Loss of {_spoken(name)} by training step"
            drawn.append(
                pages.drawing(
                    lambda width, found=found, lines=lines, height=height: loss_curves(
                        found, lines, width=width, height=height
                    ),
                    label,
                    f"Loss of {_spoken(name)}, lower is better. {_references(story, name)}{_stages(history)}",
                )
            )
    return section("Loss", *drawn) if drawn else None


def _references(story: RunStory, name: str) -> str:
    if name == "next_sentence":
        return f"A coin's loss is ln 2 = {math.log(2):.3f}. "
    uniform, unigram = story.references.get("uniform"), story.references.get("unigram")
    said = ""
    if name.endswith("_lm") and uniform is not None:
        said = f"A blind guess among all tokens costs ln V = {uniform:.2f} nats"
        said += f"; knowing how frequent each token is, {unigram:.2f}. " if unigram is not None else ". "
    return said


def _stages(history: History) -> str:
    """Where stages begin, if there are several."""
    begins, at = [], 0
    for stage in history.stages[:-1]:
        at += stage.get("steps") or 0
        begins.append(f"{at + 1:,}")
    return f"New stages begin at step {', '.join(begins)}." if begins and at else ""


def _scores(history: History) -> Section | None:
    drawn: list[Html] = []
    for name in history.objectives():
        if found := _pair(history, name, "accuracy"):
            drawn.append(_chart(found, f"Accuracy of {_spoken(name)}: the share that was right.", ".0%"))
    for name in _dev_names(history):
        series = history.series("dev", name)
        drawn.append(_chart([Curve("dev", series.steps, series.values)], f"Dev {name} after each epoch.", ".3f"))
    return section("Accuracy", *drawn) if drawn else None


def _course(history: History) -> Section | None:
    rate, norm = _finite(history.series("learning_rate")), _finite(history.series("gradient_norm"))
    drawn = []
    if len(rate):
        kept = np.unique(np.linspace(0, len(rate) - 1, _POINTS).round().astype(int))
        rate = Series(rate.steps[kept], rate.values[kept])
        caption = "Learning rate: warm-up, then down to the end of the stage."
        drawn.append(_chart([Curve("rate", rate.steps, rate.values, "green")], caption, ".1e", floor=0.0))
    if len(norm):
        usual, highest = float(np.median(norm.values)), float(norm.values.max())
        clips = sorted({str(stage["clip_norm"]) for stage in history.stages if "clip_norm" in stage})
        clip = f" Steps are scaled down to {' or '.join(clips)}." if clips else ""
        caption = f"Gradient norm before clipping: median {usual:.3g}, highest {highest:.3g}.{clip}"
        norm = averaged(norm, _POINTS)
        curve = Curve("norm", norm.steps, norm.values, "orange")
        drawn.append(_chart([curve], caption, ".3g", floor=0.0))
    return section("Learning rate and gradients", *drawn) if drawn else None


def _speed(history: History) -> Section | None:
    speed = _finite(history.speed())
    if not len(speed):
        return None
    parts = np.array_split(np.arange(len(speed)), min(_POINTS, max(1, len(speed) // 5)))
    steps = np.array([speed.steps[part[-1]] for part in parts])
    medians = np.array([float(np.median(speed.values[part])) for part in parts])
    low, high = np.percentile(speed.values, [5, 95])
    fill = history.series("fill").values
    packed = f" {fill.mean():.1%} of the positions computed were text, the rest padding." if len(fill) else ""
    caption = (
        f"Real tokens a second while training, medians of neighbouring steps; nine in ten steps ran at {low:,.0f} to "
        f"{high:,.0f}.{packed}"
    )
    curve = Curve("speed", steps, medians)
    return section("Speed", _chart([curve], caption, ",.0f", floor=0.0))


def _masks(story: RunStory) -> Section | None:
    if not story.masks:
        return None
    rows = [
        [
            what,
            percent(found),
            percent(asked),
            f"± {100 * tolerance:.1f}",
            "yes" if abs(found - asked) <= tolerance else "no",
        ]
        for what, found, asked, tolerance in story.masks
    ]
    return section(
        "Masks",
        pages.paragraph("What the logged steps really did, beside what the recipe asks for."),
        pages.table(["", "found", "asked for", "chance and rounding", "as asked"], rows),
    )


def _lengths(history: History) -> Section | None:
    found: dict[tuple[float, ...], np.ndarray] = {}
    for line in history.lines:
        if isinstance(line.get("lengths"), dict):
            edges, counts = tuple(line["lengths"]["edges"]), np.array(line["lengths"]["counts"])
            found[edges] = found[edges] + counts if edges in found else counts
    drawn = [
        pages.drawing(
            lambda width, edges=edges, counts=counts: histogram(edges, counts.tolist(), title="tokens", width=width),
            "Lengths of sequences",
            f"Tokens of {counts.sum():,} sequences of up to {edges[-1]:,.0f}, special ones included.",
        )
        for edges, counts in found.items()
        if counts.sum()
    ]
    return section("Lengths", *drawn) if drawn else None


def _guesses(history: History) -> Section | None:
    """Rows are places, columns steps, cells the likeliest tokens there."""
    looks = [line for line in history.lines if line.get("samples") and isinstance(line.get("step"), int)]
    if not looks:
        return None
    chosen = [looks[round(i)] for i in np.linspace(0, len(looks) - 1, min(_COLUMNS, len(looks)))]
    places = {_place(sample): sample for look in chosen for sample in look["samples"]}
    rows = []
    for place, sample in places.items():
        cells = []
        for look in chosen:
            here = next((one for one in look["samples"] if _place(one) == place), None)
            cells.append(_guess(here) if here else element("td", "–"))
        rows.append(element("tr", element("th", _gap(sample), scope="row"), *cells))
    head = element("tr", element("th", "hidden token", scope="col"), *(_step_head(look["step"]) for look in chosen))
    table = element("table", element("thead", head), element("tbody", *rows), class_="guesses")
    intro = (
        "The same places of held-out text, looked at again and again: the likeliest tokens for the hidden one, with their "
        "probabilities. A check mark stands where the first guess is right. Other tokens that were hidden too are shown as ▢."
    )
    return section("Guesses over time", pages.paragraph(intro), element("div", table, class_="scroll"))


def _place(sample: Mapping[str, Any]) -> tuple[str, Any]:
    return str(sample["text"]), sample.get("position")


def _step_head(step: int) -> Html:
    return element("th", f"step {step:,}", scope="col")


def _gap(sample: Mapping[str, Any]) -> Html:
    """The text around the hidden token with the token itself in it, read as words; others that are hidden are a box."""
    tokens = str(sample["text"]).split(" ")
    position = sample.get("position")
    if not isinstance(position, int) or not (0 <= position < len(tokens) and tokens[position] == "[MASK]"):
        position = tokens.index("[MASK]") if "[MASK]" in tokens else -1
    text, span = "", (0, 0)
    for number, token in enumerate(tokens):
        shown = str(sample["answer"]) if number == position else token.replace("[MASK]", "▢")
        glued = shown.startswith("##") and text
        text += "" if glued or not text else " "
        start = len(text)
        text += shown.removeprefix("##")
        span = (start, len(text)) if number == position else span
    return pages.highlighted(*pages.excerpt(text, span, 45))


def _guess(sample: Mapping[str, Any]) -> Html:
    guesses = [(str(token), float(probability)) for token, probability in sample["guesses"]]
    if not guesses:
        return element("td", "–")
    (first, probability), *others = guesses[:3]
    right = first == sample["answer"]
    rest = " · ".join(token for token, _ in others)
    return element(
        "td",
        element("span", f"{first}{' ✓' if right else ''}", class_="right" if right else None),
        element("small", f"{probability:.0%}"),
        element("small", rest) if rest else Html(""),
    )


def _events(history: History) -> Section | None:
    if not history.events:
        return None
    rows = [
        (
            _when(event),
            ": ".join(filter(None, (str(event["event"]).replace("_", " "), str(event.get("message") or "")))),
        )
        for event in history.events
    ]
    shown = rows if len(rows) <= 40 else [*rows[:20], ("…", f"{len(rows) - 40:,} more"), *rows[-20:]]
    return section("What happened", pages.facts(shown))


def _when(event: Mapping[str, Any]) -> str:
    step = event.get("step")
    return f"step {step:,}" if isinstance(step, int) else "at some time"


def _trained(history: History) -> Section:
    record, recipe = history.record, history.record.get("recipe") or {}
    facts: list[tuple[str, str]] = []
    if history.kind == "pretraining":
        facts += _sizes(recipe.get("encoder") or {})
        facts += [(f"stage {number}", _stage(stage)) for number, stage in enumerate(history.stages)]
        start = record.get("start")
        facts.append(("began", "anew" if start is None else f"from {start.get('path')}"))
        facts += [("seed", str(recipe["seed"]))] if "seed" in recipe else []
    else:
        facts += [("model", str(record.get("model"))), *_flat(record.get("settings") or {})]
        facts += [(f"{name} file", str(file.get("path"))) for name, file in (record.get("files") or {}).items()]
    for name in ("precision", "data"):
        if isinstance(record.get(name), str):
            facts.append(("shards, SHA-256" if name == "data" else name, record[name]))
    facts += [(name, str(version)) for name, version in (record.get("versions") or {}).items()]
    return section(
        "What was trained", pages.facts(facts), pages.details("run.json in full", pages.code(_indented(record)))
    )


def _sizes(encoder: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for layers in encoder.get("layers") or ():
        block = layers.get("block") or {}
        heads = (block.get("attention") or {}).get("num_attention_heads")
        inner = (block.get("feed_forward") or {}).get("intermediate_size")
        told = [f"{layers.get('count')} layers of {encoder.get('hidden_size')}"]
        told += [f"{heads} attention heads"] if heads else []
        told += [f"feed-forward of {inner:,}"] if inner else []
        yield "encoder", ", ".join(told)


def _stage(stage: Mapping[str, Any]) -> str:
    masking, schedule = stage.get("masking") or {}, stage.get("schedule") or {}
    told = [f"{stage.get('steps'):,} steps" if isinstance(stage.get("steps"), int) else "steps by budget"]
    told.append(f"batches of {stage.get('batch_size')} sequences of up to {stage.get('length')} tokens")
    told.append(" and ".join(_spoken(objective["kind"]) for objective in stage.get("objectives") or ()))
    if isinstance(masking.get("rate"), float):
        end = f" to {masking['final_rate']:.0%}" if masking.get("final_rate") else ""
        told.append(f"{masking['rate']:.0%}{end} masked")
    told.append(str((stage.get("optimizer") or {}).get("kind", "")))
    told.append(f"learning rate {schedule.get('peak')} ({_spoken(str(schedule.get('kind')))})")
    return "; ".join(part for part in told if part)


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        yield _spoken(name), ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _indented(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _pair(history: History, name: str, figure: str) -> list[Curve]:
    """Training (means over neighbouring steps, weighted by their predictions) and held-out, where they are there."""
    train, heldout = history.series("train", name, figure), _finite(history.series("heldout", name, figure))
    counts = history.series("train", name, "count")
    weights = counts.values if len(counts) == len(train) and (counts.values > 0).all() else np.ones(len(train))
    sound = np.isfinite(train.values)
    smooth = averaged(Series(train.steps[sound], train.values[sound]), _SMOOTH, weights[sound].tolist())
    found = [
        Curve("training", smooth.steps, smooth.values, "grey", sketchy=True),
        Curve("held-out", heldout.steps, heldout.values, "blue"),
    ]
    return [curve for curve in found if len(curve.values)]


def _chart(found: Sequence[Curve], caption: str, form: str, floor: float | None = None) -> Html:
    """A low chart that its caption explains."""
    return pages.drawing(
        lambda width: loss_curves(found, title="", form=form, floor=floor, width=width, height=170), caption, caption
    )


def _finite(series: Series) -> Series:
    sound = np.isfinite(series.values)
    return Series(series.steps[sound], series.values[sound])


def _asked(name: str) -> str:
    """What an objective's accuracy is a share of."""
    if name.endswith("_lm"):
        return "of hidden tokens guessed right"
    return "of next sentences told from random ones" if name == "next_sentence" else f"of {_spoken(name)} right"


def _dev_names(history: History) -> list[str]:
    return list(dict.fromkeys(name for line in history.lines for name in (line.get("dev") or {})))


def _spoken(name: str) -> str:
    return name.replace("_lm", " LM").replace("_", " ")
