"""How fast a recipe trains on this machine, measured in seconds, and what that means for a budget."""

import re
import resource
import time
from contextlib import closing
from dataclasses import dataclass

import torch

from bertsmith.data import Draws, Loader, Shards, prefetched
from bertsmith.errors import UsageError
from bertsmith.nn import Model
from bertsmith.train.loop import Loop
from bertsmith.train.memory import machine_memory
from bertsmith.train.stage import Recipe, Stage
from bertsmith.train.team import Team

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SHARE_OF_FORWARD = 1 / 3  # of a training pass: looking at held-out text has no backward pass
# What a model wants to see to be worth its size (Hoffmann et al. 2022, of left-to-right models).
TOKENS_PER_PARAMETER = 20


@dataclass(frozen=True)
class Budget:
    """How long a run may be, in one of three units."""

    amount: float
    unit: str  # "steps", "tokens" or "seconds"


def read_budget(text: str) -> Budget:
    """A budget as people write it: `20m`, `1h30m`, `5000 steps`, `300M tokens`.

    Raises:
        UsageError: it is none of these, or it is nothing.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kMG]?) ?(steps|tokens)", text.strip())
    if found:
        amount = float(found[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[found[2]]
        budget = Budget(amount, found[3])
    elif re.fullmatch(r"(\d+(\.\d+)?[smhd] ?)+", text.strip()):
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
        budget = Budget(sum(float(number) * _UNITS[unit] for number, unit in parts), "seconds")
    else:
        raise UsageError(
            f"budget {text!r}: expected a time such as 20m or 1h30m, or '5000 steps', or '300M tokens' (k, M and G are known)."
        )
    if budget.amount <= 0:
        raise UsageError(f"budget {text!r}: expected more than nothing")
    return budget


@dataclass(frozen=True)
class Pace:
    """What a stage takes here, in seconds: an `example`, an `update` of the weights, an `evaluation` on held-out text.

    `tokens` are the real tokens of an example.
    """

    example: float
    update: float
    evaluation: float
    tokens: float

    def seconds(self, stage: Stage) -> float:
        """All steps of the stage, without evaluations."""
        return stage.examples * self.example + stage.steps * self.update


@dataclass(frozen=True)
class Measured:
    """The pace of each stage of a recipe; `memory` is what the process held at its peak, `room` what it may have, in bytes."""

    paces: tuple[Pace, ...]
    memory: int
    room: int

    def seconds(self, recipe: Recipe, evaluate_every: int) -> float:
        """What a run of `recipe`, whose stages these are, will take."""
        total = 0.0
        for stage, pace in zip(recipe.stages, self.paces, strict=True):
            total += pace.seconds(stage) + stage.steps / evaluate_every * pace.evaluation
        return total + sum(pace.evaluation for pace in (self.paces[0], self.paces[-1]))

    def tokens(self, recipe: Recipe) -> float:
        """How many real tokens a run of `recipe` will see."""
        return sum(s.examples * p.tokens for s, p in zip(recipe.stages, self.paces, strict=True))

    def speeds(self, recipe: Recipe) -> list[float]:
        """Real tokens a second in each stage of a run of `recipe`."""
        return [s.examples * p.tokens / p.seconds(s) for s, p in zip(recipe.stages, self.paces, strict=True)]


def measure(
    recipe: Recipe,
    shards: Shards,
    model: Model,
    *,
    tokens_at_once: int,
    heldout_sequences: int,
    seconds: float = 4.0,
    team: Team = Team(),
) -> Measured:
    """Train `model`, which is spoiled by it, for about `seconds` in each stage's way.

    A step is put together from passes over `tokens_at_once` and one update, so that a batch of any size is measured in a
    moment; the first pass, which finds its memory, is not counted. A team measures together, and goes by the slowest.
    """
    paces = tuple(
        _pace(
            stage,
            Loader(shards, stage.instances, length=stage.length, seed=recipe.seed),
            model,
            tokens_at_once=tokens_at_once,
            heldout_sequences=heldout_sequences,
            seconds=seconds,
            team=team,
        )
        for stage in recipe.stages
    )
    device = next(model.parameters()).device
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated()
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Measured(paces, team.most(memory), machine_memory(device))


def _pace(
    stage: Stage,
    loader: Loader,
    model: Model,
    *,
    tokens_at_once: int,
    heldout_sequences: int,
    seconds: float,
    team: Team,
) -> Pace:
    size = max(1, min(stage.batch_size // team.world, tokens_at_once // stage.length))
    passes = loader.steps(Draws(batch_size=size, masking=stage.masking))
    optimizer = stage.optimizer.build(model)
    updates = 0.0

    def timed_update(*_: object) -> None:
        nonlocal updates
        updates -= time.perf_counter()

    def update_over(*_: object) -> None:
        nonlocal updates
        updates += time.perf_counter()

    optimizer.register_step_pre_hook(timed_update)
    optimizer.register_step_post_hook(update_over)
    loop = Loop(
        model=model,
        objectives=stage.objectives,
        optimizer=optimizer,
        schedule=stage.schedule,
        steps=1 << 30,
        clip_norm=stage.clip_norm,
        team=team,
    )
    spent, tokens, sequences, count = 0.0, 0, 0, 0
    with closing(prefetched(passes, depth=4)) as drawn:
        for step in loop.run(drawn):
            if step.step == 1:
                updates = 0.0
                continue
            spent, tokens, count = spent + step.seconds, tokens + step.tokens, count + 1
            sequences += size
            if team.most(int(spent > seconds and count >= 2)):
                break
    updates = team.most(round(1e6 * updates)) / 1e6
    per_sequence = (team.most(round(1e6 * spent)) / 1e6 - updates) / sequences
    return Pace(
        example=per_sequence / team.world,
        update=updates / count,
        evaluation=per_sequence * heldout_sequences * _SHARE_OF_FORWARD,
        tokens=tokens / team.world / sequences,
    )


def within(recipe: Recipe, budget: Budget, measured: Measured, evaluate_every: int) -> Recipe:
    """The recipe with its stages stretched or shortened alike, so that it takes the budget.

    A time becomes a number of steps here, before the first of them, and stays it: the run is as exact as any other, and
    takes longer or shorter where the machine becomes slower or faster.
    """
    taken = {
        "steps": float(recipe.steps),
        "tokens": measured.tokens(recipe),
        "seconds": measured.seconds(recipe, evaluate_every),
    }
    return recipe.lasting(budget.amount / taken[budget.unit])


def training_flops(recipe: Recipe, vocab_size: int) -> float:
    """Floating-point operations that one real token costs in training: 6 for every weight it is multiplied with.

    Counted over the stages by their share of the examples' tokens: the layers for each token, the products of attention,
    and the masked-LM head for the share of tokens that is predicted (the arithmetic of Kaplan et al. 2020, section 2.1).
    """
    blocks = _outline(recipe, vocab_size).encoder.blocks
    layers = sum(p.numel() for p in blocks.parameters() if p.ndim == 2)
    hidden = recipe.encoder.hidden_size
    total = weight = 0.0
    for stage in recipe.stages:
        share = stage.examples * stage.length
        predicted = 0.0 if stage.masking is None else stage.masking.rate
        attention = 2 * recipe.encoder.num_hidden_layers * stage.length * hidden
        total += share * 6 * (layers + attention + predicted * (vocab_size * hidden + hidden * hidden))
        weight += share
    return total / weight


def training_memory(recipe: Recipe, vocab_size: int, *, like: Recipe, measured: int) -> float:
    """Bytes that training `recipe` takes, from what `like` was seen to take.

    Weights, gradients and two moments are four float32 numbers each; the rest grows with the numbers in a token's states.
    """
    kept, kept_of_like = (16 * sum(p.numel() for p in _outline(r, vocab_size).parameters()) for r in (recipe, like))
    states, states_of_like = (r.encoder.num_hidden_layers * r.encoder.hidden_size for r in (recipe, like))
    return kept + max(0, measured - kept_of_like) * states / states_of_like


def weights_to_feed(recipe: Recipe, vocab_size: int) -> int:
    """Parameters of the layers, which is what tokens are wanted for; embeddings learn from few."""
    return sum(p.numel() for p in _outline(recipe, vocab_size).encoder.blocks.parameters())


def _outline(recipe: Recipe, vocab_size: int) -> Model:
    """The recipe's model without memory for its weights."""
    with torch.device("meta"):
        return recipe.model(vocab_size).build()
