"""Muon against torch's own, against singular values, and through a checkpoint."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bertsmith import nn as parts
from bertsmith.config import from_dict, to_dict
from bertsmith.errors import ConfigError
from bertsmith.train import AdamW, Muon, NorMuon, Optimizer, Pretraining, Recipe
from bertsmith.train.muon import COEFFICIENTS, evened_out, hidden_matrices, orthogonalized


def model() -> parts.Model:
    """Hidden 12, a gated layer of 11: stacked matrices, wide ones and tall ones."""
    block = parts.AttentionBlock.Config(
        attention=parts.Attention.Config(num_attention_heads=2, gate=parts.HeadGate.Config()),
        feed_forward=parts.GatedFeedForward.Config(intermediate_size=17),
        residual=parts.PreNorm.Config(),
    )
    encoder = parts.Encoder.Config(
        hidden_size=12,
        vocab_size=37,
        channels={"tokens": (parts.Lookup.Config(field="input_ids"),)},
        layers=(parts.Layers(count=2, block=block),),
        masks={"tokens": parts.Full()},
        initializer_range=0.3,
    )
    return parts.Model.Config(encoder=encoder, heads={"masked_lm": parts.MaskedLMHead.Config()}).initialized(seed=1)


def give_gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = 0.003 * (step + 1)
        give_gradients(model, step)
        optimizer.step()


def orthogonal_by_singular_values(matrix: np.ndarray) -> np.ndarray:
    """The five polynomials, applied to the singular values themselves."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.sqrt((matrix**2).sum())
    for _ in range(5):
        values = COEFFICIENTS[0] * values + COEFFICIENTS[1] * values**3 + COEFFICIENTS[2] * values**5
    return left @ np.diag(values) @ right


def test_what_is_a_hidden_matrix() -> None:
    trained = model()
    found = {id(p): stacked for p, stacked in hidden_matrices(trained)}
    named = {name: found[id(p)] for name, p in trained.named_parameters() if id(p) in found}
    first = {name.removeprefix("encoder.blocks.0."): n for name, n in named.items() if "blocks.0" in name}
    assert first == {
        "attention.query_key_value.weight": 3,
        "attention.gate.opening.weight": 1,
        "attention.output.weight": 1,
        "feed_forward.up.weight": 2,
        "feed_forward.down.weight": 1,
    }
    assert len(named) == 10  # no embedding, no head, no vector
    trained.encoder.blocks[1].requires_grad_(requires_grad=False)
    assert len(hidden_matrices(trained)) == 5


def stacks() -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    for shape in [(3, 12, 12), (2, 17, 12), (1, 12, 17), (1, 2, 12), (1, 12, 12)]:
        yield torch.randn(shape, generator=generator)


def test_iterations_act_on_singular_values() -> None:
    given = list(stacks())
    for stack, result in zip(given, orthogonalized(given, torch.float32), strict=True):
        assert stack.shape == result.shape
        for matrix, orthogonal in zip(stack.numpy(), result.numpy(), strict=True):
            np.testing.assert_allclose(orthogonal, orthogonal_by_singular_values(matrix), atol=2e-4)
            values = np.linalg.svd(orthogonal)[1]
            assert values.min() > 0.6 and values.max() < 1.3
    rounded = list(orthogonalized(given, torch.bfloat16))
    for exact, rough in zip(orthogonalized(given, torch.float32), rounded, strict=True):
        assert rough.dtype == torch.bfloat16
        assert (exact - rough).norm() < 0.05 * exact.norm()
    assert not next(orthogonalized([torch.zeros(1, 3, 5)], torch.float32)).any()  # a matrix without a gradient stays


def test_muon_is_the_one_of_torch() -> None:
    """The same matrices in torch.optim.Muon, taken apart; it always rounds to bfloat16."""
    ours, theirs = model(), model()
    train(ours, Muon(weight_decay=0.1).build(ours), range(5))
    pieces = [[nn.Parameter(m.detach().clone()) for m in p.chunk(n)] for p, n in hidden_matrices(theirs)]
    reference = torch.optim.Muon(
        [piece for stack in pieces for piece in stack], weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    for step in range(5):
        give_gradients(theirs, step)
        for (p, n), stack in zip(hidden_matrices(theirs), pieces, strict=True):
            assert p.grad is not None
            for piece, gradient in zip(stack, p.grad.chunk(n), strict=True):
                piece.grad = gradient
        reference.param_groups[0]["lr"] = 0.003 * (step + 1)
        reference.step()
    for (p, _), stack, (start, _) in zip(hidden_matrices(ours), pieces, hidden_matrices(model()), strict=True):
        moved = (torch.cat(list(stack)) - start).detach()
        assert moved.square().mean().sqrt() == pytest.approx(0.2 * 0.003 * 15, rel=0.7)
        assert (p - start - moved).norm() < 0.03 * moved.norm()


@pytest.mark.parametrize("config", [Muon(rate_factor=2.0), NorMuon(weight_decay=0.02)], ids=lambda c: c.kind)
def test_steps_equal_the_formula(config: Muon | NorMuon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # a machine that multiplies float32 only
    ours = model()
    hidden = hidden_matrices(ours)
    values = [[m.detach().double().numpy() for m in p.clone().chunk(n)] for p, n in hidden]
    buffers = [[np.zeros_like(m) for m in stack] for stack in values]
    squares = [[np.zeros(len(m)) for m in stack] for stack in values]
    train(ours, config.build(ours), range(3))
    again = model()
    for step in range(3):
        rate = 0.003 * (step + 1) * config.rate_factor
        give_gradients(again, step)
        for i, (p, n) in enumerate(hidden_matrices(again)):
            assert p.grad is not None
            for j, g in enumerate(m.double().numpy() for m in p.grad.chunk(n)):
                buffers[i][j] = 0.95 * buffers[i][j] + 0.05 * g
                update = orthogonal_by_singular_values(0.05 * g + 0.95 * buffers[i][j])
                rows, columns = update.shape
                if isinstance(config, NorMuon):
                    squares[i][j] = 0.95 * squares[i][j] + 0.05 * (update**2).mean(1)
                    update = update / (np.sqrt(squares[i][j])[:, None] + 1e-8)
                    update *= 0.2 * np.sqrt(rows * columns) / np.sqrt((update**2).sum())
                else:
                    update *= 0.2 * np.sqrt(max(rows, columns))
                values[i][j] = values[i][j] - rate * (config.weight_decay * values[i][j] + update)
    for (p, _), stack in zip(hidden, values, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), np.concatenate(stack), atol=2e-5)


def test_everything_else_is_left_to_adamw() -> None:
    adamw = AdamW(beta2=0.98, weight_decay=0.03)
    ours, theirs = model(), model()
    train(ours, NorMuon(adamw=adamw).build(ours), range(3))
    train(theirs, adamw.build(theirs), range(3))
    hidden = {id(p) for p, _ in hidden_matrices(ours)}
    for (name, p), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, other) is (id(p) not in hidden), name


def test_rows_come_out_even() -> None:
    update = torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(3)) * torch.arange(1, 6)[:, None]
    squares = torch.zeros(2, 5)
    even = evened_out(update, squares, 0.9)
    torch.testing.assert_close(even.square().mean(-1), torch.ones(2, 5))
    torch.testing.assert_close(squares, 0.1 * update.square().mean(-1))


def test_a_parameter_without_a_gradient_stays() -> None:
    ours, start = model(), model()
    optimizer = NorMuon().build(ours)
    give_gradients(ours, 0)
    optimizer.param_groups[0]["lr"] = 0.1
    ours.encoder.blocks[0].zero_grad()
    optimizer.step()
    for name, p in ours.named_parameters():
        moved = not torch.equal(p, start.get_parameter(name))
        assert moved is (".blocks.1." in name and p.ndim == 2), name


@pytest.mark.parametrize("config", [Muon(), NorMuon()], ids=lambda c: c.kind)
def test_the_state_is_named_tensors_and_nothing_else(config: Optimizer, tmp_path: Path) -> None:
    straight = model()
    train(straight, config.build(straight), range(6))
    halted = model()
    optimizer = config.build(halted)
    train(halted, optimizer, range(4))
    tensors = {
        f"{index}.{name}": tensor
        for index, values in optimizer.state_dict()["state"].items()
        for name, tensor in values.items()
    }
    save_file(tensors, tmp_path / "optimizer.safetensors")  # which refuses what is no tensor
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(tmp_path / "optimizer.safetensors").items():
        state.setdefault(int(key.split(".")[0]), {})[key.split(".")[1]] = tensor
    resumed = config.build(halted)
    resumed.load_state_dict({"state": state, "param_groups": resumed.state_dict()["param_groups"]})
    train(halted, resumed, range(4, 6))
    for (name, p), other in zip(straight.named_parameters(), halted.parameters(), strict=True):
        assert torch.equal(p, other), name


def test_a_run_with_muon_resumes_to_the_same_weights(small_recipe: Recipe, shard_folder: Path, tmp_path: Path) -> None:
    stages = tuple(replace(stage, optimizer=NorMuon()) for stage in small_recipe.stages)
    recipe = replace(small_recipe, stages=stages)
    weights = []
    for name, stops in (("straight", ()), ("halted", (4, 8))):
        run = Pretraining(recipe=recipe, data=shard_folder, out=tmp_path / name, heldout_sequences=8)
        for turn, stop in enumerate((*stops, None)):
            steps = run.run(resume=turn > 0)
            for report in steps:
                if report.step == stop:
                    steps.close()
                    break
        weights.append((run.out / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_a_model_without_blocks_is_all_adamw() -> None:
    plain, other = parts.LayerNorm(3, 1e-5), parts.LayerNorm(3, 1e-5)
    for module in (plain, other):
        parts.initialize(module, 0.1, torch.Generator())
    train(plain, Muon().build(plain), range(2))
    train(other, AdamW().build(other), range(2))
    assert torch.equal(plain.weight, other.weight)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "muon", "momentum": 1.0}, "momentum: expected 0 <= momentum < 1"),
        ({"kind": "normuon", "beta2": -0.1}, "beta2: expected 0 <= beta2 < 1"),
        ({"kind": "normuon", "rate_factor": 0.0}, "rate_factor: expected more than 0"),
        ({"kind": "muon", "adamw": {"kind": "adamw", "eps": 0.0}}, "adamw.eps: expected more than 0"),
        ({"kind": "muon", "adamw": {"kind": "bert_adamw"}}, "adamw.kind: expected adamw, got bert_adamw"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(Optimizer, values)


def test_configurations_survive_being_written_down() -> None:
    for config in (Muon(adamw=AdamW(beta2=0.9)), NorMuon(rate_factor=3.0)):
        assert from_dict(Optimizer, to_dict(config)) == config
