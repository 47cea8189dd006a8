"""Blocks as one call of our own C++: the same numbers as torch's operators, in any shape that a batch can have."""

import copy
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bertsmith import nn
from bertsmith.data import Batch, Run
from bertsmith.nn.blocks import AttentionBlock
from bertsmith.nn.feed_forward import FeedForward
from bertsmith.nn.kernels import FusedBlock, can_fuse, compiled, missing
from bertsmith.nn.masks import AppliedMask, SameSequence
from bertsmith.recipes import bert, modern
from bertsmith.train import AdamW

kernels = pytest.mark.skipif(missing() is not None, reason=f"no kernels here, because {missing()}")
TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 4e-2, torch.int8: 4e-2}


def make_block(hidden: int = 12, heads: int = 2, inner: int = 20, **changes: Any) -> AttentionBlock:
    """With weights that are not small, so that nothing is hidden by the residuals."""
    config: Any = bert.encoder(hidden, 1, heads).layers[0].block
    config = replace(config, feed_forward=replace(config.feed_forward, intermediate_size=inner, **changes))
    block = config.build(nn.Sizes(hidden, 7))
    for number, parameter in enumerate(block.parameters()):
        torch.nn.init.normal_(parameter, std=0.4, generator=torch.Generator().manual_seed(number))
    return block.eval()


def make_newer(hidden: int = 12, heads: int = 2, *, attention: Any = None, **changes: Any) -> AttentionBlock:
    """Pre-norm, gated, rotary, without biases."""
    config: Any = modern.encoder(hidden, 2, heads).layers[-1].block
    config = replace(config, attention=replace(config.attention, **(attention or {})), **changes)
    block = config.build(nn.Sizes(hidden, 7))
    for number, parameter in enumerate(block.parameters()):
        torch.nn.init.normal_(parameter, std=0.4, generator=torch.Generator().manual_seed(number))
    return block.eval()


def batch(runs: list[Run], padding: int = 0) -> Batch:
    tokens = sum(run.sequences * run.length for run in runs)
    places = torch.cat([torch.arange(run.length) for _, run in numbered(runs)] + [torch.zeros(padding)])
    ids = torch.cat([torch.full((run.length,), 1) * n for n, run in numbered(runs)] + [torch.zeros(padding)])
    lengths = torch.tensor([run.length for _, run in numbered(runs)])
    return Batch(
        fields={"sequence_ids": ids.long()[None], "position_ids": places.long()[None]},
        starts=lengths.cumsum(0) - lengths,
        lengths=lengths,
        label_positions=torch.empty(0, dtype=torch.int64),
        has_padding=padding > 0,
        num_tokens=tokens,
        runs=tuple(runs),
    )


def numbered(runs: list[Run]) -> Iterator[tuple[int, Run]]:
    return iter(list(enumerate((run for run in runs for _ in range(run.sequences)), start=1)))


class InBytes(torch.nn.Module):
    """What a product in 8 bits is to compute: weights in steps of their column, inputs in steps of their row.

    In a row of the stream the number farthest from zero is not rounded.
    """

    def __init__(self, linear: torch.nn.Module, *, of_stream: bool) -> None:
        super().__init__()
        steps = linear.weight.abs().amax(1, keepdim=True) / 127
        self.weight, self.bias, self.of_stream = (linear.weight / steps).round() * steps, linear.bias, of_stream

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        apart = x.abs() == x.abs().amax(-1, keepdim=True)
        apart &= (apart.sum(-1, keepdim=True) == 1) & self.of_stream
        least, most = (x.masked_fill(apart, far) for far in (float("inf"), -float("inf")))
        least, most = least.amin(-1, keepdim=True), most.amax(-1, keepdim=True)
        steps = (most - least) / 255
        numbers = torch.where(apart, x, ((x - least) / steps).round() * steps + least)
        return torch.nn.functional.linear(numbers, self.weight, self.bias)


def rounded(block: AttentionBlock, dtype: torch.dtype) -> AttentionBlock:
    """What it is compared with: in 8 bits, the block with weights and inputs that are rounded alike."""
    if dtype != torch.int8:
        return block
    block = copy.deepcopy(block)
    for part, names in ((block.attention, ("query_key_value", "output")), (block.feed_forward, ("up", "down"))):
        for name in names:
            setattr(part, name, InBytes(getattr(part, name), of_stream=name in ("query_key_value", "up")))
    return block


@torch.inference_mode()
def both(block: AttentionBlock, inputs: Batch, dtype: torch.dtype, hidden: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What torch makes of random states, and what the kernel makes of them; tokens only."""
    row = inputs["sequence_ids"].shape[1]
    x = torch.randn(1, row, hidden, generator=torch.Generator().manual_seed(5))
    masks = {"tokens": AppliedMask(SameSequence(), inputs)}
    expected = rounded(block, dtype)({"tokens": x}, masks, inputs)["tokens"]
    found = FusedBlock(block, dtype)({"tokens": x}, masks, inputs)["tokens"]
    assert torch.isfinite(found).all() and not found[0, inputs.num_tokens :].any()
    return expected[0, : inputs.num_tokens], found[0, : inputs.num_tokens]


@pytest.fixture(params=[torch.float32, torch.bfloat16, torch.int8], ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    if reason := missing(request.param):
        pytest.skip(f"no kernels here, because {reason}")
    return request.param


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@kernels
@pytest.mark.parametrize(
    "runs",
    [
        [Run(0, 1, 1)],
        [Run(0, 1, 2)],
        [Run(0, 1, 9)],
        [Run(0, 3, 2), Run(6, 1, 7), Run(13, 2, 16), Run(45, 1, 65)],
        [Run(0, 1, 130)],
        [Run(0, 40, 5), Run(200, 20, 17), Run(540, 2, 100), Run(740, 1, 300)],
    ],
    ids=lambda runs: f"{sum(run.sequences * run.length for run in runs)} tokens",
)
def test_any_batch(runs: list[Run], dtype: torch.dtype, threads: int) -> None:
    expected, found = both(make_block(), batch(runs), dtype, 12)
    torch.testing.assert_close(found, expected, atol=TOLERANCES[dtype], rtol=TOLERANCES[dtype])


@kernels
@pytest.mark.parametrize(
    ("hidden", "heads", "inner"), [(4, 1, 4), (16, 4, 64), (64, 1, 68), (128, 2, 512), (312, 12, 1200), (280, 2, 36)]
)
def test_any_size(hidden: int, heads: int, inner: int, dtype: torch.dtype) -> None:
    expected, found = both(make_block(hidden, heads, inner), batch([Run(0, 2, 3), Run(6, 1, 20)]), dtype, hidden)
    # With so large weights, softmaxes are sharp: what rounding does grows with the number of products.
    near = torch.isclose(found, expected, atol=10 * TOLERANCES[dtype], rtol=TOLERANCES[dtype]).float().mean()
    assert near == 1 if dtype == torch.float32 else near > 0.97


@kernels
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "silu"])
@pytest.mark.parametrize("bias", [True, False])
def test_any_activation(activation: str, bias: bool, dtype: torch.dtype) -> None:
    block = make_block(activation=activation, bias=bias)
    expected, found = both(block, batch([Run(0, 2, 3)]), dtype, 12)
    torch.testing.assert_close(found, expected, atol=TOLERANCES[dtype], rtol=TOLERANCES[dtype])


NORMS = {"none": nn.Plain.Config(), "before": nn.PreNorm.Config(), "after": nn.PostNorm.Config()}


@kernels
@pytest.mark.parametrize("attention", NORMS)
@pytest.mark.parametrize("feed_forward", NORMS)
def test_newer_blocks_with_any_norm(attention: str, feed_forward: str, dtype: torch.dtype, threads: int) -> None:
    block = make_newer(attention_residual=NORMS[attention], residual=NORMS[feed_forward])
    runs = [Run(0, 3, 2), Run(6, 1, 7), Run(13, 2, 16), Run(45, 1, 99)]
    expected, found = both(block, batch(runs, padding=3), dtype, 12)
    # Where nothing is normalized, numbers are large.
    scale = max(1.0, expected.abs().max().item() / 3)
    torch.testing.assert_close(found, expected, atol=scale * TOLERANCES[dtype], rtol=2 * TOLERANCES[dtype])


@kernels
@pytest.mark.parametrize(("hidden", "heads"), [(64, 2), (128, 1), (100, 5), (256, 4)])
def test_newer_blocks_of_any_size(hidden: int, heads: int, dtype: torch.dtype) -> None:
    expected, found = both(make_newer(hidden, heads), batch([Run(0, 2, 5), Run(10, 1, 30)]), dtype, hidden)
    near = (found - expected).norm() / expected.norm()
    # In 8 bits a number that bfloat16 has moved can be rounded to the next one.
    assert near < {torch.float32: 1e-5, torch.bfloat16: 0.02, torch.int8: 0.04}[dtype]


@kernels
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rotary", [True, False])
def test_gates_with_biases_and_without_positions(bias: bool, rotary: bool, dtype: torch.dtype) -> None:
    query_key = (nn.Rotary.Config(theta=100.0),) if rotary else ()
    gated = nn.GatedFeedForward.Config(intermediate_size=72, activation="silu", bias=bias)
    block = make_newer(attention={"query_key": query_key, "bias": bias}, feed_forward=gated)
    expected, found = both(block, batch([Run(0, 2, 5), Run(10, 1, 9)]), dtype, 12)
    scale = max(1.0, expected.abs().max().item() / 3)
    torch.testing.assert_close(found, expected, atol=scale * TOLERANCES[dtype], rtol=2 * TOLERANCES[dtype])


@kernels
def test_large_and_small_numbers(dtype: torch.dtype) -> None:
    """Activations and softmaxes far from zero: nothing overflows, and nothing is lost beside it."""
    block = make_block()
    with torch.no_grad():
        block.feed_forward.up.bias.copy_(torch.linspace(-60, 60, 20))
        block.attention.query_key_value.bias.mul_(50)
    expected, found = both(block, batch([Run(0, 2, 5)]), dtype, 12)
    torch.testing.assert_close(found, expected, atol=3 * TOLERANCES[dtype], rtol=TOLERANCES[dtype])


@kernels
def test_padding_behind_the_texts_is_nothing(dtype: torch.dtype) -> None:
    expected, found = both(make_block(), batch([Run(0, 2, 5)], padding=6), dtype, 12)
    torch.testing.assert_close(found, expected, atol=TOLERANCES[dtype], rtol=TOLERANCES[dtype])


def in_place(block: AttentionBlock) -> None:
    block.feed_forward.down.weight.mul_(2)
    block.attention_residual.norm.bias.mul_(2)


def by_our_optimizer(block: AttentionBlock) -> None:
    """torch's fused optimizers do not count versions."""
    optimizer = AdamW().build(block)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    for parameter in block.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def replaced(block: AttentionBlock) -> None:
    block.feed_forward.down.weight = torch.nn.Parameter(block.feed_forward.down.weight.t().contiguous().t() * 2)
    block.attention.output.bias = torch.nn.Parameter(block.attention.output.bias * 2)


def loaded(block: AttentionBlock) -> None:
    block.load_state_dict({name: value * 2 for name, value in block.state_dict().items()})


@kernels
@torch.no_grad()
@pytest.mark.parametrize("change", [in_place, by_our_optimizer, replaced, loaded])
def test_weights_that_change_are_seen(change: Callable[[AttentionBlock], None]) -> None:
    block, inputs = make_block(), batch([Run(0, 2, 5)])
    fused, masks = FusedBlock(block, torch.float32), {"tokens": AppliedMask(SameSequence(), inputs)}
    x = {"tokens": torch.randn(1, 10, 12, generator=torch.Generator().manual_seed(5))}
    before = fused(x, masks, inputs)["tokens"]
    change(block)
    after = fused(x, masks, inputs)["tokens"]
    assert (before - after).abs().max() > 0.1 and not list(fused.parameters())
    torch.testing.assert_close(after, block(x, masks, inputs)["tokens"], atol=2e-5, rtol=2e-5)


@kernels
def test_threads_that_come_first_together() -> None:
    """Each of them finds a block that is laid out whole, and so do those that find it changed."""
    inputs = batch([Run(0, 2, 5)])
    x = {"tokens": torch.randn(1, 10, 12, generator=torch.Generator().manual_seed(5))}
    masks = {"tokens": AppliedMask(SameSequence(), inputs)}
    block = make_block()
    with torch.no_grad():
        expected = block(x, masks, inputs)["tokens"]
        for _ in range(50):
            fused, wait = FusedBlock(block, torch.float32), threading.Barrier(4)

            def read(fused: FusedBlock = fused, wait: threading.Barrier = wait) -> torch.Tensor:
                wait.wait()
                with torch.no_grad():
                    return fused(x, masks, inputs)["tokens"]

            with ThreadPoolExecutor(4) as pool:
                for found in [one.result() for one in [pool.submit(read) for _ in range(4)]]:
                    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


@kernels
@torch.no_grad()
def test_copies_have_memory_of_their_own() -> None:
    block, inputs = make_block(), batch([Run(0, 2, 5)])
    x = {"tokens": torch.randn(1, 10, 12, generator=torch.Generator().manual_seed(5))}
    masks = {"tokens": AppliedMask(SameSequence(), inputs)}
    fused = FusedBlock(block, torch.float32)
    expected = fused(x, masks, inputs)["tokens"]
    copies = [copy.copy(fused), copy.deepcopy(fused)]
    del fused
    gc.collect()
    for one in copies:
        assert torch.equal(one(x, masks, inputs)["tokens"], expected)


@kernels
def test_nan_is_not_hidden(dtype: torch.dtype) -> None:
    for activation in ("gelu", "gelu_tanh", "relu", "silu"):
        block, inputs = make_block(activation=activation), batch([Run(0, 1, 3)])
        masks = {"tokens": AppliedMask(SameSequence(), inputs)}
        with torch.no_grad():
            block.feed_forward.up.bias[3] = float("nan")
            assert FusedBlock(block, dtype)({"tokens": torch.ones(1, 3, 12)}, masks, inputs)["tokens"].isnan().all()


@kernels
def test_streams_of_other_numbers_are_refused() -> None:
    inputs = batch([Run(0, 1, 4)])
    masks = {"tokens": AppliedMask(SameSequence(), inputs)}
    with pytest.raises(ValueError, match="float32 stream on the CPU, and this is"):
        FusedBlock(make_block(), torch.float32)({"tokens": torch.ones(1, 4, 12).bfloat16()}, masks, inputs)


@kernels
@torch.inference_mode()
def test_the_same_bytes_every_time(dtype: torch.dtype, threads: int) -> None:
    block, inputs = make_block(), batch([Run(0, 30, 5), Run(150, 9, 31)])
    assert len({both(block, inputs, dtype, 12)[1].numpy().tobytes() for _ in range(5)}) == 1


@kernels
def test_rows_of_other_batches_are_refused() -> None:
    inputs = replace(batch([Run(0, 1, 4)]), runs=())
    with pytest.raises(ValueError, match="texts that lie in one row"):
        both(make_block(), inputs, torch.float32, 12)


def test_what_is_not_ours_is_not_fused() -> None:
    class Other(FeedForward):
        pass

    assert can_fuse(make_block())
    assert not can_fuse(make_block(activation="relu_squared"))
    assert can_fuse(make_block(inner=21)) and not can_fuse(make_block(inner=21), torch.bfloat16)
    assert can_fuse(make_block(inner=22), torch.bfloat16) and not can_fuse(make_block(inner=22), torch.int8)
    with pytest.raises(ValueError, match=r"do not know such a block in torch\.int8"):
        FusedBlock(make_block(inner=22), torch.int8)
    assert not can_fuse(torch.nn.Linear(2, 2)) and not can_fuse(make_block(hidden=6, heads=2))
    assert not can_fuse(make_newer(attention={"gate": nn.HeadGate.Config()}))
    assert not can_fuse(make_newer(attention={"query_key": (nn.QueryKeyNorm.Config(), nn.Rotary.Config())}))
    block = make_block()
    block.feed_forward.__class__ = Other
    assert not can_fuse(block)
    assert not can_fuse(make_block().to(torch.bfloat16))


def said(*, cxx: str | None = None, cache: Path) -> str:
    """What a new process says about its kernels."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)} | ({} if cxx is None else {"CXX": cxx})
    command = [sys.executable, "-c", "from bertsmith.nn.kernels import missing; print(missing())"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@kernels
@pytest.mark.slow
def test_it_is_compiled_once_and_failures_have_a_reason(tmp_path: Path) -> None:
    assert said(cache=tmp_path) == "None"
    (made,) = (tmp_path / "bertsmith").iterdir()
    before = made.stat()
    assert said(cache=tmp_path) == "None" and made.stat().st_mtime_ns == before.st_mtime_ns
    assert said(cxx="no-such-compiler", cache=tmp_path).startswith("no C++ compiler was found")
    assert said(cxx="false", cache=tmp_path / "other") == "false failed"
    file = tmp_path / "file"
    file.touch()
    assert "cannot be made or loaded ([Errno 20] Not a directory" in said(cache=file)
    made.chmod(0o777)
    assert said(cache=tmp_path) == f"{made} could have been written by others: remove it, or make it yours alone"
    made.chmod(0o700)
    made.write_bytes(b"no library")
    assert f"cannot be made or loaded ({made}: " in said(cache=tmp_path)
    assert said(cxx="g++ -Werror -no-such-option", cache=tmp_path).startswith("g++ failed: g++: error: ")


def test_a_processor_that_lacks_the_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    with pytest.raises(compiled.CannotCompile, match="this processor has no AVX-512"):
        compiled._load()
    for dtype, unit in ((torch.bfloat16, "BF16"), (torch.int8, "VNNI")):
        with pytest.raises(compiled.CannotCompile, match=f"this processor has no AVX-512 {unit}"):
            FusedBlock(make_block(), dtype)
