"""Pages: one file, nothing from elsewhere, and scripts only where the policy names them."""

import base64
import re
from hashlib import sha256

import numpy as np
import pytest

from bertsmith.inspection import AttentionMap, page
from bertsmith.inspection.attention_page import attention_page, attention_picture
from bertsmith.inspection.charts import Curve, loss_curves
from bertsmith.inspection.markup import Html

# Everything by which HTML, CSS or SVG can ask for something from elsewhere.
REQUESTS = re.compile(r"""\b(?:src|href|srcset|action|data|poster)\s*=\s*["']?\s*(?:https?:)?//|@import|\burl\(""")


def test_a_script_runs_only_if_the_policy_names_its_hash(habits: AttentionMap) -> None:
    text = attention_page(habits)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(sha256(scripts[0].encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy and policy[1].replace("&#x27;", "'").startswith(
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
    )


def test_a_page_without_scripts_allows_none() -> None:
    text = page.page("x", lead="y", sections=[])
    assert "script-src &#x27;none&#x27;" in text and "<script" not in text


def test_pages_ask_for_nothing(habits: AttentionMap) -> None:
    chart = page.chart("loss", loss_curves([Curve("a", [0, 1], [2, 1])]), loss_curves([Curve("a", [0, 1], [2, 1])]))
    parts = [page.figure(chart, "c"), page.code("curl https://example.org"), attention_picture(habits)]
    text = page.page("x", lead="y", sections=[page.section("z", *parts)])
    assert not REQUESTS.search(text)
    assert text.count("<svg") == 2 and "xmlns" not in text


def test_styles_and_scripts_come_once(habits: AttentionMap) -> None:
    two = page.page("x", lead="", sections=[page.section("a", attention_picture(habits), attention_picture(habits))])
    assert two.count('<div class="attention"><script') == 2
    assert two.count('"use strict"') == 1 and two.count(".attention .heads {") == 1


def test_parts_escape_what_they_show() -> None:
    evil = "<img src=x onerror=alert(1)>"
    parts = [
        page.paragraph(evil),
        page.note(evil),
        page.key_numbers([(evil, evil, evil)]),
        page.table([evil, evil], [[evil, evil]]),
        page.facts([(evil, evil)]),
        page.details(evil, evil),
        page.drawing(lambda width: f'<svg width="{width}" height="2"></svg>', evil, evil),
        page.figure(Html(""), evil),
        page.chart(evil, '<svg width="1" height="2"></svg>'),
        page.bar_list([(evil, 0.3)]),
        page.columns(evil),
        page.code(evil),
        page.highlighted(evil, (3, 7)),
    ]
    text = page.page(evil, lead=evil, sections=[page.section(evil, *parts)], footer=evil)
    assert "<img" not in text
    assert text.count("&lt;img") > 15


def test_shares_beyond_their_range_keep_to_the_bar() -> None:
    assert "width:100.00%" in page.bar_list([("x", 1.7)]) and "width:0.00%" in page.bar_list([("x", -0.2)])


def test_only_charts_with_a_size_can_be_shown() -> None:
    with pytest.raises(ValueError, match="a width and a height"):
        page.chart("x", "<svg></svg>")


def test_assets_hold_no_end_of_themselves() -> None:
    for name in ("page.css", "attention.css", "attention.js"):
        text = page.asset(name)
        assert "</script" not in text and "</style" not in text and "innerHTML" not in text and "eval(" not in text


def test_128_tokens_of_144_heads_fit_into_a_megabyte() -> None:
    # Heads as they are: each looks at few places. Dirichlet weights of concentration 0.03 have the entropy, about 1.5 nats,
    # that is usual for BERT.
    random = np.random.default_rng(0)
    weights = random.dirichlet(np.full(128, 0.03), (12, 12, 128)).astype(np.float32)
    entropy = -(weights * np.log(np.maximum(weights, 1e-30))).sum(-1).mean()
    assert entropy > 1
    found = AttentionMap(("token",) * 128, (0,) * 128, weights)
    assert len(attention_page(found)) <= 1_000_000
