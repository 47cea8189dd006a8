"""The report says what the numbers say, good or bad, and shows every part of the result."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from bertsmith.demo import wording
from bertsmith.demo.page import render
from bertsmith.demo.result import Comparison, DemoResult, Fill, Neighbourhood
from bertsmith.errors import ConfigError
from bertsmith.inspection import Neighbour

MADE_UP = (Path(__file__).parent / "made_up.json").read_text(encoding="utf-8")


@pytest.fixture
def result() -> DemoResult:
    return DemoResult.from_json(MADE_UP)


def text_of(page: str) -> str:
    """What a reader sees, blanks squeezed."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def compared(pretrained: tuple[float, ...], not_pretrained: tuple[float, ...], tfidf: float = 0.8) -> Comparison:
    return Comparison(
        task="a or b",
        train_size=100,
        test_size=2000,
        pretrained=pretrained,
        not_pretrained=not_pretrained,
        tfidf=tfidf,
        majority=0.5,
    )


def test_everything_found_is_shown(result: DemoResult) -> None:
    seen = text_of(render(result))
    for expected in (
        "From raw text to a BERT in 6.2 minutes",
        "5.31 million weights",
        "1,892 documents (1.41 million words)",
        "Pretraining lifted accuracy from 83.2% to 89.5%, by 6.3 points, on 2,000 sentences",
        "TF-IDF with logistic regression, a strong and simple method, gets 86.8%: 2.7 points less.",
        "of hidden tokens guessed right 31.2%",
        "1.13 tokens a word, 0.04% of words unknown",
        "ln V = 9.01 nats",
        "as unsure as if it chose among 66 equally likely tokens",
        "cameron 31.0%",
        "role 0.61",
        "Creative Commons Attribution 4.0",
        "bertsmith fill --model demo/model",
        "pretrain 281.4",
    ):
        assert expected in seen, expected
    assert 'role="note"' not in render(result), "nothing to doubt in a run that went well"


def test_a_page_of_a_result_read_back_is_the_same(result: DemoResult) -> None:
    assert render(DemoResult.from_json(result.to_json())) == render(result)


def test_a_result_with_a_wrong_type_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.hidden_size: expected a value of type int"):
        DemoResult.from_json(MADE_UP.replace('"hidden_size": 256', '"hidden_size": "256"'))


def test_numbers_that_are_not_finite_are_refused(result: DemoResult) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(result, tokens_per_second=float("nan")).to_json()


@pytest.mark.parametrize(
    ("pretrained", "not_pretrained", "clear", "says"),
    [
        ((0.90, 0.89, 0.91), (0.80, 0.81, 0.79), True, "lifted accuracy from 80.0% to 90.0%, by 10.0 points"),
        ((0.90, 0.89, 0.91), (0.895, 0.88, 0.89), False, "within what chance explains"),
        ((0.90,), (0.895,), False, "The difference of 0.5 points is within"),
        ((0.80, 0.81), (0.85, 0.84), False, "Pretraining did not help"),
        ((0.80,), (0.80,), False, "Pretraining did not help"),
        ((0.99, 0.80, 0.99), (0.81, 0.81, 0.81), False, "within what chance explains"),
    ],
)
def test_the_lift_is_told_as_it_is(
    result: DemoResult, pretrained: tuple[float, ...], not_pretrained: tuple[float, ...], clear: bool, says: str
) -> None:
    comparison = compared(pretrained, not_pretrained)
    assert comparison.lift_is_clear is clear
    seen = text_of(render(replace(result, comparison=comparison)))
    assert says in seen
    assert ("The lift from pretraining is not there" in seen) is not clear
    assert ("Each pretrained run beat each" in seen) is (clear and len(pretrained) > 1)


def test_a_small_test_set_makes_no_lift_clear() -> None:
    comparison = compared((0.9, 0.9), (0.8, 0.8))
    assert comparison.lift_is_clear
    assert not replace(comparison, test_size=50).lift_is_clear


@pytest.mark.parametrize(
    ("tfidf", "says"),
    [(0.7, "gets 70.0%: 20.0 points less"), (0.895, "about the same"), (0.95, "still ahead with 95.0%")],
)
def test_tfidf_is_given_its_due(tfidf: float, says: str) -> None:
    assert says in wording.against_tfidf(compared((0.9,), (0.8,), tfidf))


def test_every_doubt_is_told(result: DemoResult) -> None:
    heldout = replace(result.heldout, masked_lm_loss=6.5, next_sentence_accuracy=0.53)
    comparison = compared((0.48,), (0.49,))
    found = wording.doubts(replace(result, heldout=heldout, comparison=comparison))
    assert len(found) == 4
    seen = text_of(render(replace(result, heldout=heldout, comparison=comparison)))
    assert all(doubt in seen for doubt in found)
    assert "no better than knowing how frequent each token is (6.47)" in seen


def test_parts_that_a_run_did_not_produce_are_left_out(result: DemoResult) -> None:
    bare = replace(result, log=(), fills=(), neighbourhoods=())
    page = render(bare)
    assert page.count('<svg class="chart') == 2  # the comparison, wide and narrow
    assert "Filling in the gap" not in page and "One word in two contexts" not in page


def test_hostile_text_stays_text(result: DemoResult) -> None:
    evil = "</script><img src=x onerror=alert(1)>\x00\u202e"
    neighbour = Neighbour(evil, f"a {evil} b", (2, 2 + len(evil)), 0.5)
    hostile = replace(
        result,
        corpus=replace(result.corpus, name=evil, licence=evil),
        model=replace(result.model, name=evil),
        comparison=replace(result.comparison, task=evil),
        seconds={evil: 3.0},
        fills=(Fill(f"{evil} [MASK] {evil}", ((evil, 0.5),)),),
        neighbourhoods=(Neighbourhood(evil, evil, (neighbour,)),),
        attention=replace(result.attention, tokens=(evil,) * len(result.attention.tokens)),
        commands=(evil,),
    )
    page = render(hostile)
    assert "<img" not in page and "\x00" not in page and "\u202e" not in page
    assert page.count("<script") == 2  # the picture's data and its code


def test_long_sentences_are_cut_around_the_word(result: DemoResult) -> None:
    sentence = f"{'before ' * 30}here{' after' * 30}"
    neighbour = Neighbour("here", sentence, (210, 214), 0.5)
    page = render(replace(result, neighbourhoods=(Neighbourhood("x", "x", (neighbour,)),)))
    (excerpt,) = re.findall(r"<small>(.*?)</small>", page)
    assert re.fullmatch(r"… (before )+<mark>here</mark>( after)+ …", excerpt)
    assert 80 < len(excerpt) < 170


def test_the_picture_begins_with_a_head_of_the_result(result: DemoResult) -> None:
    layer, head = result.attention.most_telling()
    assert f'"start":[{layer},{head}]' in render(result)
    assert np.isclose(result.attention.weights.sum(-1), 1, atol=0.05).all()
