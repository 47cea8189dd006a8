"""Lanes: how far their vectors are from the exact ones, with real weights and with every part that encoders have."""

import csv
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from bertsmith import LoadedModel, nn
from bertsmith.checkpoints import Checkpoint
from bertsmith.cli import main
from bertsmith.config import from_dict, to_dict
from bertsmith.embed import (
    BFloat16,
    Embedder,
    EmbedOptions,
    Float32,
    Int8,
    Lane,
    Windows,
    embed_file,
    in_one_row,
    lanes,
)
from bertsmith.nn.feed_forward import ACTIVATIONS
from bertsmith.nn.kernels import missing
from bertsmith.nn.packed import KERNELS, DirectLinear, PackedLinear
from bertsmith.recipes import bert, modern
from bertsmith.tasks.metrics import spearman

TEXTS = [
    "A cat sat on the mat.",
    "",
    "electrodynamics",
    "The quick brown fox jumps over the lazy dog, again and again and again.",
    "Zürich liegt an der Limmat.",
    "A cat sat on the mat.",
    "river " * 300,
]

fast = pytest.mark.skipif(BFloat16().missing() is not None, reason=f"{BFloat16().missing()}, so the lane is float32")
faster = pytest.mark.skipif(Int8().missing() is not None, reason=f"{Int8().missing()}, so the lane is float32")


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)


def in_lane(model: LoadedModel | Checkpoint, lane: Lane, **options: Any) -> Embedder:
    checkpoint = model.checkpoint if isinstance(model, LoadedModel) else model
    return Embedder(checkpoint, EmbedOptions(lane=lane, **options))


@pytest.mark.parametrize("activation", KERNELS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kind", "tolerance"), [(DirectLinear, 1e-5), (PackedLinear, 2e-2)])
def test_matrices_compute_what_they_replace(kind: Any, tolerance: float, bias: bool, activation: Any) -> None:
    if kind is PackedLinear and BFloat16().missing():
        pytest.skip("no units for bfloat16")
    linear = nn.Linear(12, 7, bias=bias)
    for parameter in linear.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    x = torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(2))
    expected = linear(x) if activation is None else ACTIVATIONS[activation](linear(x))
    with torch.inference_mode():
        made = kind(linear, activation)(x)
    torch.testing.assert_close(made.float(), expected, atol=tolerance * 4, rtol=tolerance)
    assert not list(kind(linear).parameters())


@fast
def test_bfloat16_with_real_weights(minilm: LoadedModel, computed_by: str) -> None:
    embedder = in_lane(minilm, BFloat16())
    how = "." if computed_by == "kernels" else ", by torch's operators: no compiler."
    assert embedder.lane == BFloat16() and f"Computed in bfloat16{how}" in embedder.about
    exact, found = minilm.embed(TEXTS), embedder.embed(TEXTS).vectors
    assert cosines(exact, found).min() > 0.9999 and np.abs(exact - found).max() > 1e-5  # it is another arithmetic
    assert minilm.embed(TEXTS).tobytes() == exact.tobytes()  # and the model is left as it was


@faster
def test_int8_with_real_weights(minilm: LoadedModel, computed_by: str) -> None:
    embedder = in_lane(minilm, Int8())
    if computed_by == "operators":  # there are none in 8 bits
        assert embedder.lane == Float32() and "Computed in float32, and not in int8: no compiler." in embedder.about
        return
    assert embedder.lane == Int8() and "Computed in int8." in embedder.about
    exact, found = minilm.embed(TEXTS), embedder.embed(TEXTS).vectors
    assert 0.995 < cosines(exact, found).min() < 0.9999


@fast
@faster
def test_they_rank_as_float32_does(minilm: LoadedModel, stsb: list[tuple[str, str, float]]) -> None:
    first, second, scores = zip(*stsb, strict=True)

    def alike(lane: Lane) -> float:
        vectors = in_lane(minilm, lane).embed([*first, *second]).vectors
        return spearman(list(cosines(vectors[: len(first)], vectors[len(first) :])), list(scores))

    exact = alike(Float32())
    assert min(alike(BFloat16()), alike(Int8())) >= 0.995 * exact


@fast
def test_neighbours_change_no_more_than_rounding(minilm: LoadedModel) -> None:
    embedder = in_lane(minilm, BFloat16())
    together = embedder.embed(TEXTS).vectors
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(embedder.embed([text]).vectors[0], vector, atol=2e-3)
    assert embedder.embed(TEXTS).vectors.tobytes() == together.tobytes()


@pytest.fixture(params=["kernels", "operators"], autouse=True)
def computed_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Everything with kernels of our own, if there are any here, and without."""
    if request.param == "kernels" and missing():
        pytest.skip(f"no kernels here, because {missing()}")
    shared = [vars(request.getfixturevalue(name)) for name in ("small", "minilm") if name in request.fixturenames]
    for model in shared:
        model.pop("embedder", None)  # which was made with the other ones
    if request.param == "operators":
        monkeypatch.setattr(lanes, "missing", lambda dtype: "no compiler")
    yield request.param
    for model in shared:
        model.pop("embedder", None)


LETTERS = ["a b c", "", "d e f g h i j k l m n o p q r s t", "b", "x y", "c b a"]


@fast
@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": pooling}
        for pooling in (nn.ClsPooling(), nn.MaxPooling(), nn.MeanMaxPooling(), nn.TextMeanPooling(), nn.PoolerPooling())
    ]
    + [{"layers": nn.Concatenated((0, -1))}, {"layers": nn.Averaged((1, 2))}, {"long": Windows(3)}, {"dimensions": 5}],
    ids=lambda changes: str(next(iter(changes.values()))),
)
def test_every_option_works_in_it(small: LoadedModel, changes: dict[str, Any]) -> None:
    exact, found = (in_lane(small, lane, **changes) for lane in (Float32(), BFloat16()))
    given = [*LETTERS, ("a b", "c")]
    one, other = exact.embed(given), found.embed(given)
    np.testing.assert_allclose(other.vectors, one.vectors, atol=0.05)
    assert other.windows.tolist() == one.windows.tolist() and other.truncated.tolist() == one.truncated.tolist()
    if "pooling" not in changes:
        for a, b in zip(exact.word_vectors(given), found.word_vectors(given), strict=True):
            assert a.pieces == b.pieces
            np.testing.assert_allclose(b.vectors, a.vectors, atol=0.05)


@fast
@faster
def test_newer_encoders_too(made: Callable[..., Checkpoint], computed_by: str) -> None:
    """Gates, rotary positions, gated layers, no biases; and a left-to-right mask, which no run can stand for.

    What the kernels do not know, int8 leaves to others, and says it.
    """
    checkpoint = made()
    size = checkpoint.model.config.encoder.known_vocab_size
    encoder = replace(modern.encoder(12, 2, 2), vocab_size=size)
    block: Any = encoder.layers[-1].block
    gated = replace(block, attention=replace(block.attention, gate=nn.HeadGate.Config()))
    left = replace(bert.encoder(12, 2, 2), vocab_size=size, masks={"tokens": nn.Causal()})
    for config in (encoder, replace(encoder, layers=(nn.Layers(count=2, block=gated),)), left):
        other = replace(checkpoint, model=nn.Model.Config(encoder=config, pooler=False).initialized(3))
        exact, found, bytes_ = (in_lane(other, lane) for lane in (Float32(), BFloat16(), Int8()))
        vectors = exact.embed(LETTERS).vectors
        assert cosines(vectors, found.embed(LETTERS).vectors).min() > 0.999
        assert cosines(vectors, bytes_.embed(LETTERS).vectors).min() > 0.99
        assert bytes_.lane == (Int8() if config is encoder and computed_by == "kernels" else Float32())


def test_rows_without_padding_are_what_packed_rows_are(small: LoadedModel) -> None:
    encodings = [small.tokenizer.encode(text, special_tokens=True, max_length=16) for text in LETTERS]
    batch = in_one_row(encodings, small.tokenizer, multiple=16)
    assert batch["input_ids"].shape == (1, 48) and batch.num_tokens == sum(map(len, encodings)) < 48
    assert sum(run.sequences for run in batch.runs) == len(LETTERS)
    assert [run.length for run in batch.runs] == [2, 3, 4, 5, 16]
    with torch.inference_mode():
        states = small.checkpoint.model(batch).streams["tokens"].flatten(0, 1)
        for encoding, start in zip(encodings, batch.starts.tolist(), strict=True):
            alone = small.checkpoint.model(in_one_row([encoding], small.tokenizer)).streams["tokens"][0]
            torch.testing.assert_close(states[start : start + len(encoding)], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lacking", ["units", "parts"])
def test_where_it_cannot_be_float32_is_taken_and_said(
    small: LoadedModel, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    if lacking == "units":
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    else:
        monkeypatch.setattr(lanes, "Attention", type("Other", (), {}))
        monkeypatch.setattr(lanes, "FeedForward", type("Other", (), {}))
        monkeypatch.setattr(BFloat16, "missing", lambda _: None)
    embedder = in_lane(small, BFloat16())
    assert embedder.lane == Float32()
    reason = "this processor has no units for bfloat16" if lacking == "units" else "no attention or feed-forward layers"
    assert "Computed in float32, and not in bfloat16: " in embedder.about and reason in embedder.about
    np.testing.assert_allclose(embedder.embed(LETTERS).vectors, small.embed(LETTERS), atol=1e-6)


class Doubled(nn.FeedForward):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + x @ self.up.weight.T @ self.down.weight.T


@dataclass(frozen=True, kw_only=True)
class DoubledConfig(nn.FeedForward.Config, kind="doubled_for_a_test"):
    def build(self, sizes: nn.Sizes) -> nn.FeedForward:
        return Doubled(sizes.hidden_size, self)


def test_parts_of_others_stay_as_they_are(made: Callable[..., Checkpoint]) -> None:
    checkpoint = made()
    encoder = checkpoint.model.config.encoder
    block: Any = encoder.layers[0].block
    block = replace(block, feed_forward=DoubledConfig(intermediate_size=20))
    model = nn.Model.Config(encoder=replace(encoder, layers=(nn.Layers(count=2, block=block),))).initialized(3)
    checkpoint = replace(checkpoint, model=model)
    exact, found = (in_lane(checkpoint, lane).embed(LETTERS).vectors for lane in (Float32(), BFloat16()))
    assert cosines(exact, found).min() > 0.999


@fast
def test_files_say_it(small: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a b\nc\n", encoding="utf-8")
    for lane in (Float32(), BFloat16()):
        out = tmp_path / f"{lane.kind}.parquet"
        embed_file(in_lane(small, lane), tmp_path / "texts.txt", out)
        assert pq.read_schema(out).metadata[b"lane"] == lane.kind.encode()


@fast
def test_the_command_line_says_it(minilm: LoadedModel, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["embed", "--model", str(minilm.checkpoint.path), "--lane", "bfloat16", "--text", TEXTS[0]])
    said = capsys.readouterr()
    assert not end.value.code and "Computed in bfloat16" in said.err
    found = np.array(json.loads(said.out)["vector"])[None]
    assert cosines(found, minilm.embed(TEXTS[:1])).min() > 0.9999


def test_it_is_stored_by_its_kind() -> None:
    options = EmbedOptions(lane=BFloat16())
    assert to_dict(options)["lane"] == {"kind": "bfloat16"} and from_dict(EmbedOptions, to_dict(options)) == options


@pytest.fixture(scope="session")
def stsb() -> list[tuple[str, str, float]]:
    """Every tenth pair of the test part."""
    root = Path(os.environ.get("BERTSMITH_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (root / "get").is_file():
        pytest.skip(f"no shared data at {root}: set BERTSMITH_DATA")
    done = subprocess.run([root / "get", "stsb-multi"], capture_output=True, text=True, check=True)
    with (Path(done.stdout.split()[-1]) / "data" / "stsb-en-test.csv").open(encoding="utf-8", newline="") as lines:
        return [(first, second, float(score)) for first, second, score in csv.reader(lines)][::10]
