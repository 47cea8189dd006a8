"""A run's page shows what the run wrote, and leaves out what it did not."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from bertsmith.history import History
from bertsmith.inspection.run_page import RunStory, render

STAGE = {
    "steps": 300,
    "length": 7,
    "batch_size": 3,
    "objectives": [{"kind": "masked_lm"}, {"kind": "next_sentence"}],
    "optimizer": {"kind": "adamw"},
    "schedule": {"kind": "warmup_linear", "peak": 0.002},
    "masking": {"rate": 0.3, "final_rate": 0.15},
    "clip_norm": 1.0,
}
RECORD = {
    "kind": "pretraining",
    "recipe": {
        "name": "bert:odd",
        "seed": 5,
        "encoder": {
            "hidden_size": 12,
            "layers": [
                {
                    "count": 3,
                    "block": {"attention": {"num_attention_heads": 2}, "feed_forward": {"intermediate_size": 48}},
                }
            ],
        },
        "stages": [STAGE, STAGE | {"steps": 100}],
    },
    "data": "abc123",
    "start": None,
    "precision": "float32",
    "versions": {"torch": "2.13.0"},
}


def lines(steps: int) -> list[dict[str, Any]]:
    """A log in which every figure can be told from every other."""
    found: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        pair = {"loss": 0.7, "accuracy": 0.5, "count": 3}
        found.append(
            {
                "step": step,
                "stage": int(step > 300),
                "train": {
                    "masked_lm": {"loss": 6 - step / 100, "accuracy": step / 1000, "count": 4},
                    "next_sentence": pair,
                },
                "learning_rate": 0.002 * (1 - step / 500),
                "gradient_norm": 2.5,
                "tokens": 20,
                "seconds": 0.5,
                "lengths": {"edges": [0, 4, 8], "counts": [1, 3]},
                "fill": 0.875,
            }
        )
        if step % 100 == 0:
            heldout = {"masked_lm": {"loss": 6.25 - step / 100, "accuracy": 0.31, "count": 4}, "next_sentence": pair}
            found.append({"step": step, "stage": 0, "heldout": heldout})
            guess = "mill" if step > 200 else "the"
            sample = {
                "text": "at the [MASK] [MASK] , all day ##s",
                "position": 3,
                "answer": "mill",
                "guesses": [[guess, 0.25], ["of", 0.1]],
            }
            found.append({"step": step, "samples": [sample]})
    return found


def story(run: Path, steps: int = 400, *, extra: tuple[dict[str, Any], ...] = (), **changes: Any) -> RunStory:
    (run / "run.json").write_text(json.dumps(RECORD), encoding="utf-8")
    log = [*lines(steps), *extra]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log), encoding="utf-8")
    given = {"references": {"uniform": 9.01, "unigram": 6.47}, "findings": [], **changes}
    return RunStory(history=History.load(run), **given)


def seen(page: str) -> str:
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_everything_the_run_wrote_is_shown(tmp_path: Path) -> None:
    event = {"step": 250, "event": "rolled_back", "message": "to step 200"}
    finding = {"check": "x", "severity": "odd", "seen": "It rained.", "why": "Clouds.", "advice": "Wait."}
    masks = [("chosen tokens hidden by [MASK]", 0.7, 0.8, 0.01)]
    text = seen(render(story(tmp_path, extra=(event,), findings=[finding], masks=masks)))
    for expected in (
        "Pretraining: bert:odd Finished: step 400. 8,000 tokens in 3.3 minutes of training.",
        "loss of masked LM on held-out text 2.25 as unsure as among 9 tokens",
        "of hidden tokens guessed right on held-out text 31.0%",
        "tokens a second, the median 40",
        "Odd. It rained. Clouds. Wait.",
        "blind guess 9.01",
        "frequencies 6.47",
        "knowing how frequent each token is, 6.47. New stages begin at step 301.",
        "coin 0.69",
        "Steps are scaled down to 1.0.",
        "87.5% of the positions computed were text",
        "chosen tokens hidden by [MASK] 70.0% 80.0% ± 1.0 no",
        "Tokens of 1,600 sequences of up to 8, special ones included.",
        "at the ▢ mill , all days the 25% of the 25% of mill ✓ 25% of mill ✓ 25% of",
        "step 250 rolled back: to step 200",
        "encoder 3 layers of 12, 2 attention heads, feed-forward of 48",
        "stage 1 100 steps; batches of 3 sequences of up to 7 tokens; masked LM and next sentence; 30% to 15% masked; adamw",
        "abc123",
    ):
        assert expected in text, expected


def test_a_sound_run_says_so_and_one_that_goes_on_too(tmp_path: Path) -> None:
    text = seen(render(story(tmp_path, 50)))
    assert "Nothing wrong was found, and nothing odd." in text
    assert "Not finished: step 50 of 400." in text
    assert "Guesses over time" not in text and "What happened" not in text and "Masks" not in text


def test_a_run_before_its_first_step(tmp_path: Path) -> None:
    page = render(story(tmp_path, 0))
    assert "svg" not in page.partition("<main>")[2]
    assert "Not finished: step 0 of 400." in seen(page)


def test_figures_that_are_not_numbers_are_not_drawn(tmp_path: Path) -> None:
    broken = {"step": 400, "stage": 1, "train": {"masked_lm": {"loss": float("nan"), "accuracy": None, "count": 4}}}
    heldout = {"step": 400, "stage": 1, "heldout": {"masked_lm": {"loss": float("inf"), "accuracy": 0.1, "count": 4}}}
    page = render(story(tmp_path, 40, extra=(broken | {"gradient_norm": float("inf")}, heldout)))
    assert "nan" not in page.lower().partition("<main>")[2].replace("nance", "").partition("run.json in full")[0]


def test_a_long_log_makes_no_long_page(tmp_path: Path) -> None:
    assert len(render(story(tmp_path, 3000))) < 400_000


def test_many_events_are_cut(tmp_path: Path) -> None:
    events = tuple({"step": step, "event": "skipped"} for step in range(100))
    text = seen(render(story(tmp_path, 0, extra=events)))
    assert "60 more" in text and "step 19 skipped" in text and "step 50 skipped" not in text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>\x00\u202e"
    sample = {"text": f"{evil} [MASK]", "position": evil, "answer": evil, "guesses": [[evil, 0.5]]}
    extra = ({"step": 400, "event": evil, "message": evil}, {"step": 400, "samples": [sample]})
    finding = dict.fromkeys(("check", "severity", "seen", "why", "advice"), evil)
    page = render(story(tmp_path, 0, extra=extra, findings=[finding], masks=[(evil, 0.1, 0.1, 0.1)]))
    assert "<img" not in page and "<script" not in page and "\x00" not in page and "\u202e" not in page


@pytest.mark.parametrize("finished", [True, False])
def test_a_fine_tuning_run(tmp_path: Path, finished: bool) -> None:
    record = {
        "kind": "finetuning",
        "task": {"kind": "classify"},
        "model": "m",
        "settings": {"epochs": 2, "seeds": [1, 2]},
    }
    (tmp_path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    log: list[dict[str, Any]] = [
        {
            "step": step,
            "seed": 1,
            "epoch": 1,
            "train": {"label": {"loss": 1 / step, "accuracy": 0.5, "count": 3}},
            "tokens": 9,
            "seconds": 1,
        }
        for step in range(1, 9)
    ]
    log += [{"step": 8, "seed": 1, "epoch": 1, "dev": {"accuracy": 0.75}}]
    log += [{"step": 8, "result": {"mean": 0.75}}] if finished else []
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log), encoding="utf-8")
    text = seen(render(RunStory(history=History.load(tmp_path), references={}, findings=[])))
    assert "Fine-tuning: classify" in text and "best accuracy on the dev file 0.750" in text and "seeds 1, 2" in text
    assert ("Not finished" in text) is not finished
