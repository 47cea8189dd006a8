"""Offline pages: one HTML file with its style, pictures and data inside.

    page("My run", lead="What happened.", sections=[
        section("Loss", figure(chart(svg, "Loss by step"), "Lower is better.")),
        section("Scores", table(["model", "accuracy"], [["mine", "0.91"]])),
    ])

A page asks nobody for anything: no font, no script, no picture from elsewhere, and its content policy forbids the browser
to try. The only scripts that run are those whose hash that policy names, so text can never become code.
"""

import base64
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

from bertsmith.inspection import palette
from bertsmith.inspection.charts import NARROW, WIDE
from bertsmith.inspection.markup import Html, element, join, safe


@dataclass(frozen=True)
class Widget:
    """Markup that needs a style sheet and a script; a page holds each of them once, however many widgets ask for it."""

    html: Html
    style: str = ""
    script: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it."""

    title: str
    parts: tuple[str | Widget, ...]


def section(title: str, *parts: str | Widget) -> Section:
    """A heading with what stands under it."""
    return Section(title, parts)


def page(title: str, *, lead: str | Html, sections: Iterable[Section | Html], footer: str | Html = "") -> str:
    """A whole HTML document, ready to be written as UTF-8. `lead` is the sentence under the title."""
    body: list[str] = [element("header", element("h1", title), element("p", lead, class_="lead"))]
    styles, scripts = [palette.style(), asset("page.css")], []
    for part in sections:
        if not isinstance(part, Section):
            body.append(part)
            continue
        markup: list[str] = [element("h2", part.title)]
        for content in part.parts:
            if isinstance(content, Widget):
                styles.append(content.style)
                scripts.append(content.script)
            markup.append(content.html if isinstance(content, Widget) else content)
        body.append(element("section", *markup))
    scripts = [script for script in dict.fromkeys(scripts) if script]
    head = join(
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        *(Html(f"<style>{style}</style>") for style in dict.fromkeys(styles) if style),
    )
    main = element("main", *body, element("footer", footer) if footer else Html(""))
    code = join(*(Html(f"<script>{script}</script>") for script in scripts))
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>{main}{code}</body>\n</html>\n'


def paragraph(*contents: str, class_: str | None = None) -> Html:
    """Running text."""
    return element("p", *contents, class_=class_)


def note(*contents: str) -> Html:
    """A remark that the reader should not miss."""
    return element("p", *contents, class_="note", role="note")


def key_numbers(numbers: Iterable[tuple[str, str, str]]) -> Html:
    """A row of large numbers: (number, what it is, a remark or nothing)."""
    return element(
        "dl",
        *(
            element(
                "div",
                element("dt", label),
                element("dd", number),
                element("dd", remark, class_="remark") if remark else Html(""),
            )
            for number, label, remark in numbers
        ),
        class_="numbers",
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """A table whose first column names its rows; the others are numbers, aligned right."""
    head = element("tr", *(element("th", name, scope="col") for name in header))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", value) for value in row[1:])) for row in rows
    ]
    inner = element("table", element("thead", head), element("tbody", *body))
    return element("div", inner, class_="scroll")


def facts(pairs: Iterable[tuple[str, str]]) -> Html:
    """Names and what stands behind them, one a line."""
    rows = [element("tr", element("th", name, scope="row"), element("td", value)) for name, value in pairs]
    return element("div", element("table", element("tbody", *rows), class_="facts"), class_="scroll")


def details(summary: str, *contents: str) -> Html:
    """What is shown on demand."""
    return element("details", element("summary", summary), *contents)


def figure(content: Html, caption: str | Html) -> Html:
    """A picture with its caption."""
    return element("figure", content, element("figcaption", caption))


def chart(label: str, wide: str, narrow: str | None = None) -> Html:
    """SVG documents of `charts` in a page: `narrow` is shown in their stead on a phone. `label` says what they show."""
    if narrow is None:
        return _inline(wide, label, "chart")
    return join(_inline(wide, label, "chart wide"), _inline(narrow, label, "chart narrow"))


def drawing(draw: Callable[[int], str], label: str, caption: str | Html) -> Html:
    """A chart with its caption, drawn twice: `draw` gives it for a width in pixels, a page's and a phone's."""
    return figure(chart(label, draw(WIDE), draw(NARROW)), caption)


def bar_list(rows: Iterable[tuple[str, float]]) -> Html:
    """Shares between 0 and 1 as labelled bars: (name, share)."""
    items = [
        element(
            "li",
            element("span", name, class_="name", dir="auto"),
            element("span", element("span", style=f"width:{min(max(share, 0), 1):.2%}"), class_="track"),
            element("span", f"{share:.1%}", class_="share"),
        )
        for name, share in rows
    ]
    return element("ol", *items, class_="bars")


def columns(*contents: str) -> Html:
    """Contents side by side, one under another where the page is narrow."""
    return element("div", *(element("div", content) for content in contents), class_="columns")


def code(*lines: str) -> Html:
    """Commands or program text, one line each."""
    return element("pre", element("code", "\n".join(lines)))


def highlighted(text: str, span: tuple[int, int]) -> Html:
    """`text` with the characters from `span[0]` up to `span[1]` marked."""
    start, end = span
    return join(text[:start], element("mark", text[start:end]), text[end:])


def excerpt(sentence: str, span: tuple[int, int], around: int = 60) -> tuple[str, tuple[int, int]]:
    """What stands around `span`, cut at blanks, and where it is in there."""
    start, end = span
    first = 0 if start <= around else sentence.find(" ", start - around, start) + 1 or start
    last = sentence.rfind(" ", end, end + around) if len(sentence) > end + around else len(sentence)
    last = last if last >= end else end
    before, after = "… " if first else "", " …" if last < len(sentence) else ""
    shift = len(before) - first
    return f"{before}{sentence[first:last]}{after}", (start + shift, end + shift)


@cache
def asset(name: str) -> str:
    """A style sheet or script that lies beside this file."""
    return files("bertsmith.inspection").joinpath(name).read_text(encoding="utf-8")


def _inline(svg: str, label: str, class_: str) -> Html:
    """An SVG document as part of a page: named for readers who do not see it, and free to shrink."""
    root = re.match(r'<svg[^>]* width="([\d.]+)" height="([\d.]+)"[^>]*>', svg)
    if root is None:
        raise ValueError("expected an SVG document with a width and a height")
    width, height = root.groups()
    opening = (
        f'<svg class="{class_}" role="img" aria-label="{safe(label)}" viewBox="0 0 {width} {height}" width="{width}">'
    )
    return Html(opening + svg[root.end() :])


def _policy(scripts: Sequence[str]) -> str:
    """What the browser may load for this page: nothing but its own style and these scripts."""
    hashes = [f"'sha256-{base64.b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts]
    allowed = " ".join(hashes) or "'none'"
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}; base-uri 'none'; form-action 'none'"
