"""How good a fine-tuned model is on one file: scores of each label, what is taken for what, and its mistakes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bertsmith.inspection import page as pages
from bertsmith.inspection.markup import Html, element
from bertsmith.inspection.page import Section, page, section

_MATRIX = 24  # labels at most for a matrix that a person can read
_PAIRS = 15


@dataclass(frozen=True, kw_only=True)
class EvaluationStory:
    """All that the page shows.

    Attributes:
        title: what was evaluated.
        lead: on which file.
        numbers: (number, what it is, a remark or nothing).
        by_label: label, precision, recall, F1 and count of each.
        labels, confusion: `confusion[true][predicted]` in the order of `labels`; empty where there are none.
        mistakes: place, text, truth, prediction, and how sure the model was; the most telling first.
    """

    title: str
    lead: str
    numbers: Sequence[tuple[str, str, str]]
    by_label: Mapping[str, tuple[float, float, float, int]]
    labels: Sequence[str]
    confusion: Sequence[Sequence[int]]
    mistakes: Sequence[tuple[str, str, str, str, str]]


def evaluation_page(story: EvaluationStory) -> str:
    """One HTML document that opens offline."""
    sections: list[Section | Html] = [pages.key_numbers(story.numbers)]
    if story.by_label:
        rows = [
            (label, *(f"{score:.1%}" for score in scores), f"{count:,}")
            for label, (*scores, count) in story.by_label.items()
        ]
        sections.append(section("Each label", pages.table(("label", "precision", "recall", "F1", "count"), rows)))
    if story.confusion:
        parts = [_matrix(story.labels, story.confusion)] if len(story.labels) <= _MATRIX else []
        sections.append(section("What is taken for what", *parts, _pairs(story.labels, story.confusion)))
    sections.append(section("Mistakes", *_mistakes(story.mistakes)))
    return page(story.title, lead=story.lead, sections=sections)


def _matrix(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> Html:
    """A row for each true label, shaded by its share of the row."""
    head = element("tr", element("th", "true \\ predicted"), *(element("th", label, scope="col") for label in labels))
    rows = []
    for number, (label, row) in enumerate(zip(labels, confusion, strict=True)):
        total = max(sum(row), 1)
        cells = [
            element(
                "td",
                f"{count:,}" if count else "·",
                style=f"background:color-mix(in srgb,var(--{'green' if place == number else 'orange'}) "
                f"{count / total * 60:.0f}%,transparent)",
            )
            for place, count in enumerate(row)
        ]
        rows.append(element("tr", element("th", label, scope="row"), *cells))
    return element("div", element("table", element("thead", head), element("tbody", *rows)), class_="scroll")


def _pairs(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> Html:
    """The most frequent confusions."""
    found = [
        (count, labels[true], labels[said], sum(row))
        for true, row in enumerate(confusion)
        for said, count in enumerate(row)
        if true != said and count
    ]
    found.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    if not found:
        return pages.paragraph("Nothing is taken for anything else.")
    rows = [(f"{true} → {said}", f"{count:,}", f"{count / of:.1%}") for count, true, said, of in found[:_PAIRS]]
    return pages.table(("true → predicted", "times", "of the true ones"), rows)


def _mistakes(mistakes: Sequence[tuple[str, str, str, str, str]]) -> list[Html]:
    if not mistakes:
        return [pages.paragraph("There is none.")]
    items = [
        element(
            "li",
            element("span", f"{place}, {weight}", class_="similarity"),
            element("span", text, dir="auto"),
            element("small", "true: ", element("mark", truth), " · predicted: ", element("mark", said)),
        )
        for place, text, truth, said, weight in mistakes
    ]
    return [pages.paragraph("The most telling first.", class_="quiet"), element("ol", *items, class_="words")]
