"""Charts as SVG: loss curves against reference lines, and bars with their spread.

Each function returns one SVG document that is complete by itself: no script, no font file, no link. Colours are the light
ones of `palette`; a page turns them dark where the reader wants that. Needs the extra `inspect` (Altair and vl-convert).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from bertsmith.errors import DataError, MissingExtra
from bertsmith.inspection.markup import visible
from bertsmith.inspection.palette import Role, light

FONT = "Arial, Helvetica, 'Liberation Sans', sans-serif"  # one width everywhere, so that what was laid out fits
WIDE = 700
"""Pixels of a chart that fills a page's column."""
NARROW = 350
"""Pixels of a chart that fills a phone."""

_DOTS = 100  # values of a line up to which each has a dot
_LINE = 16  # pixels from one label's baseline to the next
# Pixels around the drawing, for the widest font that may stand in for ours.
_AROUND_CURVES = {"left": 52, "right": 124, "top": 10, "bottom": 46}
_AROUND_BARS = {"left": 2, "right": 74, "top": 0, "bottom": 4}


@dataclass(frozen=True)
class Curve:
    """One line: `values` over `steps`. A `sketchy` one is drawn thin and pale, a plain one bold.

    A bold line of up to 100 values has a dot at each: they were measured there, and the line only joins them.
    """

    name: str
    steps: Sequence[float] | np.ndarray
    values: Sequence[float] | np.ndarray
    color: Role = "blue"
    sketchy: bool = False


@dataclass(frozen=True)
class Reference:
    """A level to compare curves with, drawn as a dashed rule."""

    name: str
    value: float


@dataclass(frozen=True)
class Bar:
    """A score and, where there are several runs, their spread: the bar is the mean, each run a dot, the range a line."""

    name: str
    scores: Sequence[float]
    color: Role = "grey"


def check_installed() -> None:
    """Raise now, before long work, if charts could not be drawn at its end.

    Raises:
        MissingExtra: Altair or vl-convert is not installed.
    """
    _altair()
    _vl_convert()


def loss_curves(
    curves: Sequence[Curve],
    references: Sequence[Reference] = (),
    *,
    title: str = "loss (nats)",
    form: str = ".2f",
    floor: float | None = None,
    width: int = WIDE,
    height: int = 280,
) -> str:
    """Curves over training steps against reference lines, each labelled at its right end, with its last value if bold.

    `form` is how values are written, as in Python, `floor` a value down to which the drawing reaches at least.

    Raises:
        DataError: there is no curve with a value.
        MissingExtra: Altair or vl-convert is not installed.
    """
    alt = _altair()
    curves = [curve for curve in curves if len(curve.values)]
    if not curves:
        raise DataError("There is nothing to draw: no curve has a value.")
    inner = width - _AROUND_CURVES["left"] - _AROUND_CURVES["right"]
    levels = [float(value) for curve in curves for value in curve.values] + [
        reference.value for reference in references
    ]
    levels += [] if floor is None else [floor]
    room = (max(levels) - min(levels) or 1.0) * 0.06
    low, high = min(levels) - room * (min(levels) != floor), max(levels) + room
    last = float(max(step for curve in curves for step in curve.steps))
    x = alt.X("step:Q", title="training step", scale=alt.Scale(domain=[0, last], nice=False)).axis(
        grid=False, tickCount=max(2, inner // 90), format=",d"
    )
    y = alt.Y("value:Q", title=title or None, scale=alt.Scale(domain=[low, high], nice=False, zero=False)).axis(
        tickCount=5, format=form if form.endswith("%") else alt.Undefined
    )
    layers = [_rule(alt, reference).encode(y=y) for reference in references]
    for curve in curves:
        layers += [mark.encode(x=x, y=y) for mark in _line(alt, curve)]
    labels: list[tuple[str, float, Role]] = [(f"{r.name} {r.value:{form}}", r.value, "muted") for r in references]
    for curve in curves:
        end = curve.values[-1]
        labels.append((curve.name, end, "muted") if curve.sketchy else (f"{curve.name} {end:{form}}", end, curve.color))
    layers += [mark.encode(y=y) for mark in _labels(alt, labels, inner, height, (low, high))]
    return _svg(alt.layer(*layers).properties(width=inner, height=height), _AROUND_CURVES)


def histogram(
    edges: Sequence[float], counts: Sequence[float], *, title: str, width: int = WIDE, height: int = 150
) -> str:
    """How often values lie between neighbouring `edges` (one more than `counts`), as shares of all.

    Raises:
        DataError: there is nothing to count.
        MissingExtra: Altair or vl-convert is not installed.
    """
    alt = _altair()
    if len(edges) != len(counts) + 1 or not sum(counts) > 0:
        raise DataError("There is nothing to draw: a histogram needs counts, and one edge more than those.")
    inner = width - _AROUND_CURVES["left"] - _AROUND_BARS["right"]
    bins = zip(edges[:-1], edges[1:], counts, strict=True)
    data = alt.Data(values=[{"from": float(a), "to": float(b), "share": float(n) / sum(counts)} for a, b, n in bins])
    x = alt.X("from:Q", title=title, scale=alt.Scale(domain=[edges[0], edges[-1]], nice=False)).axis(
        grid=False, tickCount=max(2, inner // 90)
    )
    y = alt.Y("share:Q", title=None).axis(tickCount=3, format=".0%")
    mark = alt.Chart(data).mark_rect(color=light("blue"), stroke=light("paper"), strokeWidth=1, opacity=1)
    drawn = mark.encode(x=x, x2="to:Q", y=y, y2=alt.datum(0)).properties(width=inner, height=height)
    return _svg(alt.layer(drawn), _AROUND_CURVES | {"right": _AROUND_BARS["right"]})


def bars(rows: Sequence[Bar], *, width: int = WIDE) -> str:
    """Horizontal bars from 0 to 1, each under its name and with its mean beside it.

    Raises:
        DataError: a bar has no score.
        MissingExtra: Altair or vl-convert is not installed.
    """
    alt = _altair()
    for row in rows:
        if not row.scores:
            raise DataError(f"There is nothing to draw for {row.name!r}: it has no score.")
    band = 46  # pixels a row: name, bar, air
    layers = []
    for number, row in enumerate(rows):
        layers += _bar(alt, row, number * band)
    inner = width - _AROUND_BARS["left"] - _AROUND_BARS["right"]
    return _svg(alt.layer(*layers).properties(width=inner, height=band * len(rows)), _AROUND_BARS)


def _line(alt: Any, curve: Curve) -> list[Any]:
    points = zip(curve.steps, curve.values, strict=True)
    data = alt.Data(values=[{"step": float(step), "value": float(value)} for step, value in points])
    color = light(curve.color)
    if curve.sketchy:
        return [alt.Chart(data).mark_line(color=color, strokeWidth=1.3, opacity=0.75, strokeJoin="round")]
    marks = [alt.Chart(data).mark_line(color=color, strokeWidth=2.4, strokeJoin="round", strokeCap="round")]
    if len(curve.values) <= _DOTS:
        marks.append(alt.Chart(data).mark_point(color=color, fill=color, filled=True, size=34, opacity=1))
    return marks


def _rule(alt: Any, reference: Reference) -> Any:
    data = alt.Data(values=[{"value": float(reference.value)}])
    return alt.Chart(data).mark_rule(color=light("muted"), strokeDash=[5, 4], strokeWidth=1.2)


def _labels(
    alt: Any, labels: list[tuple[str, float, Role]], inner: int, height: int, domain: tuple[float, float]
) -> list[Any]:
    """Texts right of the curves, pushed apart so that none covers another."""
    low, high = domain
    marks = []
    placed = sorted(labels, key=lambda label: -label[1])
    heights = _apart([(high - value) / (high - low) * height for _, value, _ in placed], height)
    for (text, _, role), y in zip(placed, heights, strict=True):
        data = alt.Data(values=[{"text": visible(text), "value": high - y / height * (high - low)}])
        mark = alt.Chart(data).mark_text(
            align="left", baseline="middle", dx=8, fontSize=12.5, color=light(role), fontWeight=_weight(role)
        )
        marks.append(mark.encode(text="text:N", x=alt.value(inner)))
    return marks


def _apart(heights: list[float], limit: int) -> list[float]:
    """Ascending heights with at least a line between any two, as near to where they were as going down allows."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + _LINE) if moved else height)
    # What was pushed below the chart is pushed back up, and takes those above it along.
    edge = float(limit)
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], edge)
        edge = moved[index] - _LINE
    return moved


def _weight(role: Role) -> str:
    return "normal" if role == "muted" else "bold"


def _bar(alt: Any, row: Bar, top: int) -> list[Any]:
    mean, low, high = sum(row.scores) / len(row.scores), min(row.scores), max(row.scores)
    middle = top + 30
    x = alt.X("value:Q", scale=alt.Scale(domain=[0, 1], nice=False), axis=None)
    single = alt.Data(
        values=[{"value": mean, "low": low, "high": high, "name": visible(row.name), "text": f"{mean:.1%}"}]
    )
    base = alt.Chart(single)
    marks = [
        base.mark_bar(color=light(row.color), height=18, cornerRadiusEnd=3).encode(x=x, y=alt.value(middle)),
        base.mark_text(align="left", baseline="middle", fontSize=13, color=light("ink")).encode(
            text="name:N", x=alt.value(0), y=alt.value(top + 11)
        ),
        base.mark_text(
            align="left", baseline="middle", dx=12, fontSize=13, fontWeight="bold", color=light("ink")
        ).encode(
            text="text:N", x=alt.X("high:Q", scale=alt.Scale(domain=[0, 1], nice=False), axis=None), y=alt.value(middle)
        ),
    ]
    if len(row.scores) > 1:
        runs = alt.Chart(alt.Data(values=[{"value": float(score)} for score in row.scores]))
        marks += [
            base.mark_rule(color=light("ink"), strokeWidth=1.4).encode(
                x=alt.X("low:Q", axis=None), x2="high:Q", y=alt.value(middle)
            ),
            runs.mark_point(
                filled=True, fill=light("paper"), stroke=light("ink"), strokeWidth=1.2, size=30, opacity=1
            ).encode(x=x, y=alt.value(middle)),
        ]
    return marks


def _svg(chart: Any, around: dict[str, int]) -> str:
    """The chart as an SVG document of our look, with room around the drawing that no font changes."""
    words = {"labelFont": FONT, "titleFont": FONT, "labelColor": light("muted"), "titleColor": light("muted")}
    axis = {
        **words,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 10,
        "gridColor": light("faint"),
        "domainColor": light("faint"),
        "tickColor": light("faint"),
    }
    chart = chart.configure(font=FONT, aria=False, background="transparent", axis=axis).configure_view(stroke=None)
    chart = chart.properties(autosize="none", padding=around)
    svg: str = _vl_convert().vegalite_to_svg(chart.to_dict(), allowed_base_urls=[])
    # Charts in one page share its names, and the names of clip paths are counted anew in each. Nothing here reaches
    # beyond its axes, so clipping goes.
    return re.sub(r"<defs>.*?</defs>| clip-path=\"url\(#\w+\)\"", "", svg, flags=re.DOTALL)


def _altair() -> Any:
    return _import("altair", "altair")


def _vl_convert() -> Any:
    return _import("vl_convert", "vl-convert-python")


def _import(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise MissingExtra(package, "inspect") from None
