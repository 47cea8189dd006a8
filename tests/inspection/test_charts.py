"""Charts: complete by themselves, and drawn where their numbers say."""

import re
import sys
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from bertsmith.errors import DataError, MissingExtra
from bertsmith.inspection import charts
from bertsmith.inspection.charts import NARROW, WIDE, Bar, Curve, Reference, bars, histogram, loss_curves
from bertsmith.inspection.palette import PALETTE, light, style

SVG = "{http://www.w3.org/2000/svg}"
CURVES = [
    Curve("training", [10, 20, 30], [8.0, 6.5, 5.5], "grey", sketchy=True),
    Curve("held-out", [10, 30], [7.9, 5.0]),
]


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def height(svg: str, text: str) -> float:
    """Pixels from the top of the text that begins with `text`."""
    found = re.search(rf'translate\([\d.]+,([\d.]+)\)"[^>]*>{re.escape(text)}', svg)
    assert found, f"no {text} in the chart"
    return float(found[1])


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_curves_are_labelled_beside_their_references(width: int) -> None:
    svg = loss_curves(CURVES, [Reference("ln V", 9.01), Reference("unigram", 6.4)], width=width)
    assert {"ln V 9.01", "unigram 6.40", "held-out 5.00", "training", "training step", "loss (nats)"} <= set(texts(svg))
    assert f'width="{width}"' in svg
    # Higher losses stand higher.
    assert height(svg, "ln V") < height(svg, "unigram") < height(svg, "training<") < height(svg, "held-out")


def test_labels_of_equal_curves_do_not_cover_each_other() -> None:
    names = [f"curve {letter}" for letter in "abcd"]
    svg = loss_curves([Curve(name, [0, 1], [0.7, 0.69]) for name in names], [Reference("coin", 0.69)])
    heights = sorted(height(svg, name) for name in [*names, "coin"])
    assert min(after - before for before, after in pairwise(heights)) >= 15.9
    assert heights[-1] <= 280 + 5  # the baseline of a text that stands at the chart's lower edge


def test_a_bar_is_as_long_as_its_mean() -> None:
    svg = bars([Bar("whole", [1.0]), Bar("runs", [0.5, 0.6, 0.7], "blue")])
    assert {"whole", "runs", "100.0%", "60.0%"} <= set(texts(svg))
    paths = re.findall(rf'd="M0,\d+h([\d.]+)[^"]*" fill="({light("grey")}|{light("blue")})"', svg)
    lengths = {color: float(length) for length, color in paths}
    corner = 3  # the rounded corner is drawn beyond the straight edge
    ratio = (lengths[light("blue")] + corner) / (lengths[light("grey")] + corner)
    assert ratio == pytest.approx(0.6, abs=0.005)
    assert svg.count(light("paper")) == 3  # a dot for each run, none for a single one


def test_charts_are_complete_and_carry_no_names_that_could_meet_in_a_page() -> None:
    for svg in (loss_curves(CURVES), bars([Bar("<&\"\x00'>", [0.3])])):
        ElementTree.fromstring(svg)
        assert "url(" not in svg and " id=" not in svg and "<script" not in svg and "href" not in svg
        assert svg == re.sub(r"[^\x20-\x7e␀\n]", "", svg)


def test_the_same_numbers_give_the_same_chart() -> None:
    assert loss_curves(CURVES) == loss_curves(CURVES)


def test_all_colours_turn_dark_in_a_page() -> None:
    used = set(
        re.findall(r'(?:fill|stroke)="(#\w+)"', loss_curves(CURVES, [Reference("x", 1)]) + bars([Bar("x", [0, 1])]))
    )
    assert used <= {shades.light for shades in PALETTE.values()}
    assert all(f'[fill="{color}"]' in style() for color in used)
    assert len({shades.light for shades in PALETTE.values()}) == len(PALETTE), "roles are found by their colour"


def luminance(color: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("role", ["ink", "muted", "blue", "orange", "green"])
def test_text_can_be_read(role: str, theme: str) -> None:
    back, front = (luminance(getattr(PALETTE[name], theme)) for name in ("paper", role))
    contrast = (max(back, front) + 0.05) / (min(back, front) + 0.05)
    assert contrast >= 4.4  # WCAG AA asks for 4.5, for large text 3


def test_values_are_written_in_their_form_and_the_drawing_reaches_its_floor() -> None:
    svg = loss_curves([Curve("right", [1, 2], [0.5, 0.75])], title="", form=".0%", floor=0.0)
    assert {"right 75%", "0%", "60%"} <= set(texts(svg)) and "loss (nats)" not in texts(svg)
    assert "right 7.5e-01" in texts(loss_curves([Curve("right", [1, 2], [0.5, 0.75])], form=".1e"))


def test_dots_stand_at_values_that_were_measured_one_by_one() -> None:
    few, many = (loss_curves([Curve("x", range(n), [1.0] * n)]).count("mark-symbol") for n in (100, 101))
    assert few and not many


def test_a_histogram_shows_shares() -> None:
    svg = histogram([0, 4, 8, 16], [1, 3, 0], title="tokens")
    assert {"tokens", "0%"} <= set(texts(svg))
    heights = [
        float(height) for height in re.findall(r'd="M[-\d.]+,[-\d.]+h[-\d.]+v([\d.]+)[^"]*" fill="#0072b2"', svg)
    ]
    assert sorted(heights)[-1] == pytest.approx(3 * sorted(heights)[-2])
    for edges, counts in (([0, 1], [0]), ([0, 1], [1, 2])):
        with pytest.raises(DataError, match="one edge more"):
            histogram(edges, counts, title="x")


def test_nothing_to_draw() -> None:
    with pytest.raises(DataError, match="no curve has a value"):
        loss_curves([Curve("empty", [], [])])
    with pytest.raises(DataError, match="'none': it has no score"):
        bars([Bar("none", [])])


def test_a_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(MissingExtra, match=r"vl-convert-python.*pip install 'bertsmith\[inspect\]'"):
        charts.check_installed()
