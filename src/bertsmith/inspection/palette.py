"""The colours of all pages and charts.

Charts are drawn in the light colours, so that an SVG is complete by itself. Within a page, `style` gives every light
colour its counterpart where the reader prefers dark: a rule for each role finds the chart's marks by their colour.
Blue, orange and green are those of Okabe and Ito ("Color Universal Design", 2008), told apart by colour-blind readers;
lines also differ in dash and label, never in colour alone.
"""

from dataclasses import dataclass
from typing import Literal

Role = Literal["ink", "muted", "faint", "paper", "panel", "blue", "orange", "green", "grey"]


@dataclass(frozen=True)
class Shades:
    """One role's colour on a light and on a dark page, as #rrggbb."""

    light: str
    dark: str


PALETTE: dict[Role, Shades] = {
    "ink": Shades("#1b1f24", "#e6e9ec"),
    "muted": Shades("#59636e", "#9aa5b1"),
    "faint": Shades("#e1e5ea", "#2c333a"),
    "paper": Shades("#ffffff", "#14181c"),
    "panel": Shades("#f5f7f9", "#1c2126"),
    "blue": Shades("#0072b2", "#56b4e9"),
    "orange": Shades("#c75400", "#f0954f"),
    "green": Shades("#00835f", "#35c79d"),
    "grey": Shades("#97a1ab", "#6c7783"),
}


def light(role: Role) -> str:
    """The role's colour on a light page."""
    return PALETTE[role].light


def style() -> str:
    """CSS: one variable a role, light and dark, and the rules that recolour charts."""
    day = "".join(f"--{role}:{shades.light};" for role, shades in PALETTE.items())
    night = "".join(f"--{role}:{shades.dark};" for role, shades in PALETTE.items())
    recolour = "".join(
        f'svg.chart [{kind}="{shades.light}"]{{{kind}:var(--{role})}}\n'
        for role, shades in PALETTE.items()
        for kind in ("fill", "stroke")
    )
    # Paper is white: a printed page is light whatever the screen was.
    return f":root{{{day}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{night}}}}}\n{recolour}"
