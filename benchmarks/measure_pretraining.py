"""Pretraining speed on this machine, beside transformers: same model, same text, same sequences, in one run.

    python benchmarks/measure_pretraining.py [--recipe demo:reviews] [--rounds 7] [--quick] [--json]

Contestants take turns, the same batches each, and every round gives one ratio a pair, so that a machine whose speed drifts does
not favour anybody. A step is forward, backward, clipping and AdamW. Speed is in real tokens (padding not counted) a second.

- bertsmith: as `bertsmith pretrain` runs it (packed rows, head on the predicted positions, bfloat16 stream where the CPU
  multiplies it), and the same in float32.
- transformers: `BertForPreTraining` from the same configuration, weights and sequences, padded to the longest in the batch,
  float32; and under bfloat16 autocast. Its attention is PyTorch's scaled_dot_product_attention, its default. All have the
  recipe's dropout, and torch's fused AdamW.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path

import torch
from transformers import BertConfig, BertForPreTraining

from bertsmith.checkpoints import Checkpoint, save_model
from bertsmith.data import Batch, Loader, Position, Shards, learn_tokenizer, prepare
from bertsmith.nn import Model
from bertsmith.objectives import Objective
from bertsmith.recipes import find
from bertsmith.train import AdamW, Constant, Loop, Stage, precision_dtype

LEARNING_RATE = 1e-5
TEXT = Path(__file__).parents[1] / "src" / "bertsmith" / "demo" / "data" / "reviews.txt.xz"


@dataclass
class Contestant:
    """One way to train: `step` runs one update on the batch with that number, which goes up by one, and returns its loss."""

    name: str
    step: Callable[[int], float]


def ours(
    name: str, model: Model, objectives: tuple[Objective, ...], batches: list[Batch], dtype: torch.dtype
) -> Contestant:
    """bertsmith's own training loop, taking the batches in turn for ever."""
    model.encoder.stream_dtype = dtype
    loop = Loop(
        model=model,
        objectives=objectives,
        optimizer=AdamW().build(model),
        schedule=Constant(peak=LEARNING_RATE),
        steps=sys.maxsize,
    )
    steps = loop.run((batch, Position()) for batch in cycle(batches))
    return Contestant(name, lambda _: sum(each.loss for each in next(steps).measures.values()))


def transformers(name: str, folder: Path, batches: list[dict[str, torch.Tensor]], *, autocast: bool) -> Contestant:
    config = BertConfig.from_pretrained(folder)
    model = BertForPreTraining.from_pretrained(folder, config=config, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)

    def step(number: int) -> float:
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            loss = model(**batches[number]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return Contestant(name, step)


def padded(batch: Batch, pad_id: int) -> dict[str, torch.Tensor]:
    """The same sequences as transformers wants them: one a row, padded to the longest."""
    rows, longest = batch.num_sequences, int(batch.lengths.max())
    fields = {"input_ids": pad_id, "token_type_ids": 0, "labels": -100}
    made = {name: torch.full((rows, longest), filler) for name, filler in fields.items()}
    mask = torch.zeros(rows, longest, dtype=torch.long)
    for row, (start, length) in enumerate(zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True)):
        for name, tensor in made.items():
            tensor[row, :length] = batch[name].flatten()[start : start + length]
        mask[row, :length] = 1
    return {**made, "attention_mask": mask, "next_sentence_label": batch.targets["next_sentence_label"]}


def contest(contestants: list[Contestant], tokens: list[int], rounds: int) -> dict[str, list[float]]:
    """Tokens a second of each contestant in each round: every round all take all batches. The first is not counted."""
    speeds: dict[str, list[float]] = {c.name: [] for c in contestants}
    for turn in range(rounds + 1):
        for contestant in contestants:
            started = time.perf_counter()
            for number in range(len(tokens)):
                contestant.step(number)
            if turn:
                speeds[contestant.name].append(sum(tokens) / (time.perf_counter() - started))
        print(f"round {turn} of {rounds}", file=sys.stderr)
    return speeds


def setting(recipe_name: str, vocab_size: int, folder: Path) -> tuple[Shards, Stage, Model]:
    recipe = find(recipe_name)
    prepare(TEXT, learn_tokenizer(TEXT, vocab_size).tokenizer, folder / "shards")
    shards = Shards.load(folder / "shards")
    return shards, recipe.stages[0], recipe.model(vocab_size).initialized(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="demo:reviews")
    parser.add_argument("--vocab-size", type=int, default=6000)
    parser.add_argument("--batch-size", type=int, help="sequences a step; default: the recipe's")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20, help="steps a turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="three short rounds")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    rounds, steps = (3, 5) if options.quick else (options.rounds, options.steps)
    torch.set_num_threads(options.threads)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shards, stage, model = setting(options.recipe, options.vocab_size, folder)
        save_model(folder / "model", Checkpoint(model=model, tokenizer=shards.tokenizer))
        size = options.batch_size or stage.batch_size
        loader = Loader(shards, stage.instances, stage.masking, length=stage.length, batch_size=size, seed=0)
        batches = [batch for batch, _ in islice(loader.batches(), steps)]
        rows = [padded(batch, shards.vocabulary.pad_id) for batch in batches]
        twin = model.config.initialized(0)
        native = precision_dtype("auto", torch.device("cpu"))
        contestants = [
            ours("bertsmith", model, stage.objectives, batches, native),
            ours("bertsmith float32", twin, stage.objectives, batches, torch.float32),
            transformers("transformers float32", folder / "model", rows, autocast=False),
            transformers("transformers bfloat16 autocast", folder / "model", rows, autocast=True),
        ]
        speeds = contest(contestants, [batch.num_tokens for batch in batches], rounds)

    filled = sum(b.num_tokens for b in batches) / sum(b["input_ids"].numel() for b in batches)
    real = sum(b.num_tokens for b in batches) / sum(r["input_ids"].numel() for r in rows)
    print(
        f"{options.recipe}, {sum(p.numel() for p in model.parameters()):,} parameters, vocabulary {options.vocab_size:,}"
    )
    print(f"{size} sequences of up to {stage.length} tokens a step; rows filled {filled:.1%} packed, {real:.1%} padded")
    print(
        f"torch {torch.__version__}, transformers {version('transformers')}, {options.threads} threads, {rounds} rounds\n"
    )
    print(f"{'tokens/s':34} {'median':>8} {'lowest':>8} {'highest':>8}   ratio of bertsmith to it, median (range)")
    ratios = {}
    for name, values in speeds.items():
        pairs = [a / b for a, b in zip(speeds["bertsmith"], values, strict=True)]
        ratios[name] = statistics.median(pairs)
        spread = f"{ratios[name]:.2f} ({min(pairs):.2f} to {max(pairs):.2f})"
        print(f"{name:34} {statistics.median(values):8,.0f} {min(values):8,.0f} {max(values):8,.0f}   {spread}")
    if options.json:
        size = options.recipe.split(":")[-1]
        keys = {
            f"{size}_vs_transformers_float32": ratios["transformers float32"],
            f"{size}_vs_transformers_bfloat16": ratios["transformers bfloat16 autocast"],
            f"{size}_vs_transformers_best": min(
                ratio for name, ratio in ratios.items() if name.startswith("transformers")
            ),
            f"{size}_bfloat16_vs_float32": ratios["bertsmith float32"],
        }
        print(json.dumps({name: round(value, 3) for name, value in keys.items()}))


if __name__ == "__main__":
    main()
