"""Attention weights as an interactive picture: every head as a thumbnail, one head as lines between tokens.

The gestures are those of bertviz (Vig 2019): hover over a token to see its lines alone. The picture lies in the page with its
weights, one byte each and deflated, and needs nothing from elsewhere.
"""

from bertsmith.inspection.attention import AttentionMap
from bertsmith.inspection.markup import Html, data_block, element, visible
from bertsmith.inspection.page import Widget, asset, page, section

_HABITUAL = 0.3  # the share of a head's weight from which on its habit is worth a name


def attention_picture(found: AttentionMap, *, start: tuple[int, int] | None = None) -> Widget:
    """The picture, beginning with the layer and head `start` (from 0), or with the most telling one."""
    layer, head = found.most_telling() if start is None else start
    layers, heads = found.weights.shape[:2]
    written = found.to_dict() | {
        # Tokens are made visible here, once, and put into the page as text by the script.
        "tokens": [visible(token) for token in found.tokens],
        "habits": [[_habit(found, row, column) for column in range(heads)] for row in range(layers)],
        "start": [layer, head],
    }
    html = element(
        "div",
        data_block(written),
        element("noscript", element("p", "This picture is drawn by a script within the page, and scripts are off.")),
        class_="attention",
    )
    return Widget(html, asset("attention.css"), asset("attention.js"))


def attention_page(found: AttentionMap, *, title: str = "Where the model looks") -> str:
    """A whole page with the picture alone."""
    layers, heads, length = found.weights.shape[:3]
    cut = f" {found.truncated:,} more tokens did not fit into the model." if found.truncated else ""
    lead = f"{layers} layers of {heads} heads reading {length} tokens.{cut}"
    return page(title, lead=lead, sections=[section("Attention", HOW_TO_READ, attention_picture(found))])


HOW_TO_READ = element(
    "p",
    Html(
        "Each small square is one head. Choose one, then point at a token on the left to see what it looks at, or at one on "
        "the right to see who looks at it. The more weight, the stronger the line. "
    ),
    "Attention shows where information may flow, not why the model decides as it does.",
    class_="quiet",
)


def _habit(found: AttentionMap, layer: int, head: int) -> str:
    habit = found.habit(layer, head)
    if habit.share < _HABITUAL:
        return f"no fixed habit: {habit.target} gets the most, {habit.share:.0%}"
    return f"{habit.share:.0%} of its weight goes to {habit.target}"
