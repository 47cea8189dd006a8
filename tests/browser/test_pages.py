"""Pages in a real browser without a network: drawn, quiet, and deaf to what their text tries.

The demo's report is opened too; its numbers are made up (`tests/demo/made_up.json`).
"""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertsmith.demo.page import render
from bertsmith.demo.result import DemoResult
from bertsmith.history import History
from bertsmith.inspection import AttentionMap, page
from bertsmith.inspection.attention_page import attention_page, attention_picture
from bertsmith.inspection.charts import Curve, loss_curves
from bertsmith.inspection.evaluation_page import EvaluationStory, evaluation_page
from bertsmith.inspection.markup import visible
from bertsmith.inspection.run_page import RunStory
from bertsmith.inspection.run_page import render as render_run

pytestmark = pytest.mark.slow

ATTACKS = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "'\"><iframe src=javascript:alert(1)>",
    "]]><!--",
    "javascript:alert(1)",
    "\u202e\u2066txet\x00\ufeff",
    "{{constructor.constructor('alert(1)')()}}",
    "</title></style></textarea><b onmouseover=alert(1)>",
    "\ud83d\ude00 \ud800",
)


def attention_of(tokens: list[str]) -> AttentionMap:
    """Two layers of three heads with weights that can be told apart."""
    weights = np.random.default_rng(7).dirichlet(np.full(len(tokens), 0.3), (2, 3, len(tokens)))
    return AttentionMap(tuple(tokens), (0,) * len(tokens), weights.astype(np.float32))


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Any:
    """Opens a page and gives the browser."""

    def open_page(text: str) -> Any:
        path = tmp_path / "page.html"
        path.write_text(text, encoding="utf-8")
        browser.open(path)
        return browser

    return open_page


def quiet(browser: Any) -> bool:
    """Nothing was reported, and nothing but the page itself was asked for."""
    assert browser.complaints() == []
    return len(browser.requests()) == 1


def test_the_attention_picture_is_drawn(show: Any) -> None:
    tokens = ["[CLS]", "the", "river", "bank", "[SEP]"]
    found = attention_of(tokens)
    browser = show(attention_page(found))
    assert browser.evaluate("document.querySelectorAll('.attention .heads button').length") == 2 * (3 + 1)
    drawn = "[...document.querySelectorAll('.attention .token text')].map((one) => one.textContent)"
    assert browser.evaluate(drawn) == tokens * 2
    strong = int((np.rint(found.weights[found.most_telling()] * 255) / 255 >= 0.01).sum())
    assert browser.evaluate("document.querySelectorAll('.attention path').length") == strong
    assert quiet(browser)


def test_a_token_tells_its_weights(show: Any) -> None:
    tokens = ["[CLS]", "the", "river", "bank", "[SEP]"]
    found = attention_of(tokens)
    browser = show(attention_page(found))
    browser.evaluate("document.querySelector('[aria-label=\"layer 2, head 3\"]').click()")
    browser.evaluate(
        "document.querySelectorAll('.attention .token')[2].dispatchEvent(new PointerEvent('pointerenter'))"
    )
    weights = found.weights[1, 2, 2]
    most = int(weights.argmax())
    says = browser.evaluate("document.querySelector('.attention .says').textContent")
    assert says.startswith(f"river looks at {tokens[most]} {100 * weights[most]:.0f}%")
    assert browser.evaluate("document.querySelector('.attention h3').textContent") == "Layer 2, head 3"
    # The other way round, by keyboard: the same token as one that is looked at.
    key = "document.querySelector('.attention svg').dispatchEvent(new KeyboardEvent('keydown', {{key: '{}'}}))"
    for pressed in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight"):
        browser.evaluate(key.format(pressed))
    says = browser.evaluate("document.querySelector('.attention .says').textContent")
    assert says.startswith(f"river is looked at by {tokens[int(found.weights[1, 2, :, 2].argmax())]} ")
    assert quiet(browser)


def test_the_mean_of_heads_is_their_mean(show: Any) -> None:
    tokens = ["a", "b", "c"]
    found = attention_of(tokens)
    browser = show(attention_page(found))
    browser.evaluate("document.querySelector('[aria-label=\"layer 1, mean of heads\"]').click()")
    browser.evaluate("document.querySelectorAll('.attention .token')[1].dispatchEvent(new MouseEvent('click'))")
    mean = found.weights[0].mean(axis=0)[1]
    says = browser.evaluate("document.querySelector('.attention .says').textContent")
    shown = dict(part.rsplit(" ", 1) for part in says.removeprefix("b looks at ").split(", "))
    for token, weight in zip(tokens, mean, strict=True):
        assert float(shown[token].rstrip("%")) == pytest.approx(100 * weight, abs=0.8)


def test_lines_to_special_tokens_can_be_left_out(show: Any) -> None:
    browser = show(attention_page(attention_of(["[CLS]", "x", "[SEP]"])))
    browser.evaluate("document.querySelector('.attention input').click()")
    assert browser.evaluate("document.querySelectorAll('.attention path').length") <= 3


def test_a_drawing_can_be_saved(show: Any) -> None:
    browser = show(attention_page(attention_of(["a", "b"])))
    browser.evaluate("window.saved = []; HTMLAnchorElement.prototype.click = function () { saved.push(this.download) }")
    browser.evaluate("document.querySelector('.attention .tools button').click()")
    assert browser.evaluate("window.saved[0]").startswith("attention-layer-")
    assert browser.complaints() == []


@pytest.mark.parametrize("size", [(390, 844), (1280, 900)])
def test_a_page_fits_its_window(show: Any, size: tuple[int, int]) -> None:
    curves = [Curve("held-out", [1, 2], [2.0, 1.0])]
    charts = page.chart("x", loss_curves(curves), loss_curves(curves, width=350))
    parts = (page.figure(charts, "c"), attention_picture(attention_of([f"token{i}" for i in range(20)])))
    text = page.page("A page", lead="of parts", sections=[page.section("s", *parts)])
    call = show(text).call
    call("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=size[0] < 500)
    try:
        browser = show(text)
        assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
        shown = "[...document.querySelectorAll('svg.chart')].map((one) => getComputedStyle(one).display)"
        assert browser.evaluate(shown) == (["none", "block"] if size[0] < 500 else ["block", "none"])
    finally:
        call("Emulation.clearDeviceMetricsOverride")


def test_charts_turn_dark(show: Any) -> None:
    browser = show(page.page("x", lead="", sections=[page.chart("x", loss_curves([Curve("a", [0, 1], [2.0, 1.0])]))]))
    line = "getComputedStyle(document.querySelector('svg.chart .mark-line path')).stroke"
    seen = set()
    for theme in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        seen.add(browser.evaluate(line))
    browser.call("Emulation.setEmulatedMedia", features=[])
    assert seen == {"rgb(0, 114, 178)", "rgb(86, 180, 233)"}


def test_ten_thousand_hostile_texts_run_nothing(show: Any) -> None:
    dice = random.Random(11)
    pieces = [*ATTACKS, "<", ">", '"', "'", "&", "\\", "`", "</", "<!--", "\x00", "\u2028", "\u202e", "on", "=", "x"]
    texts = ["".join(dice.choices(pieces, k=dice.randint(1, 4))) for _ in range(10_000)]
    items = page.bar_list([(text, 0.5) for text in texts])
    tokens = [*ATTACKS, *texts[:40]]
    parts = (page.table(ATTACKS, [ATTACKS]), items, attention_picture(attention_of(tokens)))
    title = ATTACKS[0]
    browser = show(page.page(title, lead=title, sections=[page.section(title, *parts)], footer=title))
    shown = browser.evaluate("[...document.querySelectorAll('ol.bars .name')].map((one) => one.textContent)")
    assert shown == [visible(text) for text in texts]
    foreign = "img, iframe, b, svg[onload], [onerror], [onmouseover], script:not([type])"
    found = browser.evaluate(f"[...document.querySelectorAll({foreign!r})].map((one) => one.tagName)")
    assert found == ["SCRIPT"], "the picture's own script alone"
    browser.evaluate(
        "document.querySelectorAll('.attention .token').forEach((one) => one.dispatchEvent(new MouseEvent('click')))"
    )
    assert quiet(browser)


def test_the_report_opens(show: Any) -> None:
    made_up = Path(__file__).parents[1] / "demo" / "made_up.json"
    browser = show(render(DemoResult.from_json(made_up.read_text(encoding="utf-8"))))
    assert browser.evaluate("document.querySelectorAll('section').length") == 7
    assert browser.evaluate("document.querySelectorAll('svg.chart').length") == 6
    assert browser.evaluate("document.querySelectorAll('.attention path').length") > 20
    assert quiet(browser)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_of_an_evaluation_opens(show: Any, width: int) -> None:
    """With hostile labels and texts; a matrix that is wider than the window scrolls by itself."""
    count = len(ATTACKS)
    confusion = [[(true + said) % 7 for said in range(count)] for true in range(count)]
    story = EvaluationStory(
        title=ATTACKS[0],
        lead=ATTACKS[1],
        numbers=[("0.500", attack, attack) for attack in ATTACKS[:3]],
        by_label=dict.fromkeys(ATTACKS, (0.5, 0.25, 1 / 3, 8)),
        labels=ATTACKS,
        confusion=confusion,
        mistakes=[("line 3", attack * 20, attack, ATTACKS[0], "50% sure") for attack in ATTACKS],
    )
    browser = show(evaluation_page(story))
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    assert browser.evaluate("document.querySelectorAll('ol.words li').length") == count
    cells = browser.evaluate("[...document.querySelectorAll('.scroll table')[1].querySelectorAll('td')].length")
    assert cells == count * count
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert quiet(browser)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_of_a_run_opens(show: Any, tmp_path: Path, width: int) -> None:
    """With everything a run can log, guesses and events too; hostile ones."""
    stage = {"steps": 90, "objectives": [{"kind": "masked_lm"}], "masking": {"rate": 0.15}}
    (tmp_path / "run.json").write_text(
        json.dumps({"recipe": {"name": ATTACKS[0], "stages": [stage]}}), encoding="utf-8"
    )
    samples = [
        {"text": f"{attack} [MASK]", "position": i, "answer": attack, "guesses": [[attack, 0.5]] * 3}
        for i, attack in enumerate(ATTACKS)
    ]
    with (tmp_path / "log.jsonl").open("w", encoding="utf-8") as log:
        for step in range(1, 91):
            measures = {"masked_lm": {"loss": 9 - step / 20, "accuracy": step / 200, "count": 37}}
            line = {
                "step": step,
                "stage": 0,
                "train": measures,
                "learning_rate": 1e-4,
                "gradient_norm": 2.0,
                "tokens": 70,
            }
            line |= {"seconds": 0.1, "lengths": {"edges": [0, 4, 8], "counts": [1, 3]}}
            log.write(json.dumps(line) + "\n")
            if step % 15 == 0:
                log.write(json.dumps({"step": step, "heldout": measures}) + "\n")
                log.write(json.dumps({"step": step, "samples": samples}) + "\n")
                log.write(json.dumps({"step": step, "event": "skipped", "message": ATTACKS[1]}) + "\n")
    names: tuple[str, ...] = ("check", "severity", "seen", "why", "advice")
    findings = [dict.fromkeys(names, attack) for attack in ATTACKS]
    masks = [("chosen tokens hidden by [MASK]", 0.79, 0.8, 0.02)]
    references = {"uniform": 9.0, "unigram": 6.5}
    text = render_run(RunStory(history=History.load(tmp_path), references=references, findings=findings, masks=masks))
    call = show(text).call
    call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    try:
        browser = show(text)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate("document.querySelectorAll('svg.chart').length") == 2 * 6
        assert browser.evaluate("document.querySelectorAll('table.guesses tbody tr').length") == len(ATTACKS)
        assert browser.evaluate("document.querySelectorAll('img, iframe, b, script').length") == 0
        assert quiet(browser)
    finally:
        call("Emulation.clearDeviceMetricsOverride")


def test_the_policy_stops_a_script_that_got_in(show: Any) -> None:
    """Even if escaping failed, code and requests would be refused: the second line of defence holds by itself."""
    evil = "<script>window.caught = 1</script><img src='https://example.org/x.png' onerror='window.caught = 2'>"
    browser = show(attention_page(attention_of(["a", "b"])).replace("</main>", evil + "</main>"))
    assert browser.evaluate("window.caught") is None
    refused = " ".join(str(event) for event in browser.complaints())
    assert refused.count("Content Security Policy") >= 3


def test_512_tokens_of_144_heads_open(show: Any) -> None:
    random_numbers = np.random.default_rng(0)
    weights = np.zeros((12, 12, 512, 512), dtype=np.float32)
    places = random_numbers.integers(0, 512, (12, 12, 512, 8))
    np.put_along_axis(weights, places, 0.125, axis=-1)
    text = attention_page(AttentionMap(("token",) * 512, (0,) * 512, weights))
    assert len(text) <= 10_000_000
    browser = show(text)
    assert browser.evaluate("document.querySelectorAll('.attention path').length") == 4000
    assert quiet(browser)
