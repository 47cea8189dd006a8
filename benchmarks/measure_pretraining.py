"""Pretraining speed on this machine, beside transformers: same model, same text, same sequences, in one run.

    python benchmarks/measure_pretraining.py [--recipe demo:reviews] [--rounds 7] [--quick] [--json]

Each contestant lives in a process of its own, as it would for a user, and they take turns on the same batches, another one
first in each round; every round gives one ratio a pair, so that a machine whose speed drifts does not favour anybody. A step
is forward, backward, clipping and AdamW; drawing masks and packing is done beforehand for all. Speed is in real tokens
(padding not counted) a second.

- bertsmith: its training loop with the settings of `bertsmith pretrain` (packed rows, head on the predicted positions,
  bfloat16 stream where the CPU multiplies it), and the same in float32.
- transformers: `BertForPreTraining` from the same configuration, weights and sequences, padded to the longest in the batch,
  float32; and under bfloat16 autocast. Its attention is PyTorch's scaled_dot_product_attention, its default. All have the
  recipe's dropout, and torch's fused AdamW.
- the same two with the memory setting that bertsmith's loop makes for itself, to show what that part is worth.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from bertsmith.checkpoints import Checkpoint, save_model
from bertsmith.data import Batch, Drawn, Draws, Loader, Position, Shards, learn_tokenizer, prepare
from bertsmith.recipes import find
from bertsmith.train import AdamW, Constant, Loop, keep_freed_memory, precision_dtype

TEXT = Path(__file__).parents[1] / "src" / "bertsmith" / "demo" / "data" / "reviews.txt.xz"
LEARNING_RATE = 1e-5

Step = Callable[[], float]  # one update on the next batch, for ever in turn; returns the loss


@dataclass(frozen=True)
class Setting:
    """What all contestants share: the recipe's first stage, and a folder with `shards` and `model`."""

    recipe: str
    folder: Path
    batch_size: int
    steps: int
    threads: int

    def batches(self) -> list[Batch]:
        shards, stage = Shards.load(self.folder / "shards"), find(self.recipe).stages[0]
        loader = Loader(shards, stage.instances, length=stage.length, seed=0)
        draws = Draws(batch_size=self.batch_size, masking=stage.masking)
        return [drawn.batches[0] for drawn in islice(loader.steps(draws), self.steps)]


def ours(setting: Setting, precision: str) -> Step:
    recipe, batches = find(setting.recipe), setting.batches()
    model = recipe.model(len(Shards.load(setting.folder / "shards").vocabulary)).initialized(0)
    model.encoder.stream_dtype = precision_dtype(precision, torch.device("cpu"))
    loop = Loop(
        model=model,
        objectives=recipe.stages[0].objectives,
        optimizer=AdamW().build(model),
        schedule=Constant(peak=LEARNING_RATE),
        steps=sys.maxsize,
    )
    steps = loop.run(Drawn((batch,), Position()) for batch in cycle(batches))
    return lambda: sum(measure.loss for measure in next(steps).measures.values())


def transformers(setting: Setting, *, autocast: bool, tuned_memory: bool = False) -> Step:
    from transformers import BertForPreTraining

    if tuned_memory:
        keep_freed_memory()
    batches = cycle([padded(batch) for batch in setting.batches()])
    model = BertForPreTraining.from_pretrained(setting.folder / "model", dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            loss = model(**next(batches)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def padded(batch: Batch) -> dict[str, torch.Tensor]:
    """The same sequences as transformers wants them: one a row, padded to the longest."""
    rows, longest = batch.num_sequences, int(batch.lengths.max())
    fields = {"input_ids": 0, "token_type_ids": 0, "labels": -100}
    made = {name: torch.full((rows, longest), filler) for name, filler in fields.items()}
    mask = torch.zeros(rows, longest, dtype=torch.long)
    for row, (start, length) in enumerate(zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True)):
        for name, tensor in made.items():
            tensor[row, :length] = batch[name].flatten()[start : start + length]
        mask[row, :length] = 1
    return {**made, "attention_mask": mask, "next_sentence_label": batch.targets["next_sentence_label"]}


CONTESTANTS: dict[str, Callable[[Setting], Step]] = {
    "bertsmith": lambda setting: ours(setting, "auto"),
    "bertsmith float32": lambda setting: ours(setting, "float32"),
    "transformers float32": lambda setting: transformers(setting, autocast=False),
    "transformers bfloat16 autocast": lambda setting: transformers(setting, autocast=True),
    "transformers float32, memory kept": lambda setting: transformers(setting, autocast=False, tuned_memory=True),
    "transformers bfloat16, memory kept": lambda setting: transformers(setting, autocast=True, tuned_memory=True),
}


def compete(connection: Connection, name: str, setting: Setting) -> None:
    """One contestant's process: for each message, take all batches once and answer with the seconds."""
    torch.set_num_threads(setting.threads)
    step = CONTESTANTS[name](setting)
    while connection.recv():
        started = time.perf_counter()
        for _ in range(setting.steps):
            step()
        connection.send(time.perf_counter() - started)


def contest(setting: Setting, tokens: int, rounds: int) -> dict[str, list[float]]:
    """Tokens a second of each contestant in each round; a first round is not counted."""
    context = multiprocessing.get_context("spawn")
    speeds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    connections: dict[str, Connection] = {}
    for name in CONTESTANTS:
        connections[name], theirs = context.Pipe()
        context.Process(target=compete, args=(theirs, name, setting), daemon=True).start()
        theirs.close()
    for turn in range(rounds + 1):
        first = turn % len(CONTESTANTS)
        for name in [*CONTESTANTS, *CONTESTANTS][first : first + len(CONTESTANTS)]:
            connection = connections[name]
            connection.send(True)
            seconds = connection.recv()
            if turn:
                speeds[name].append(tokens / seconds)
        print(f"round {turn} of {rounds}", file=sys.stderr)
    for connection in connections.values():
        connection.send(False)
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="demo:reviews")
    parser.add_argument("--vocab-size", type=int, default=6000)
    parser.add_argument("--batch-size", type=int, help="sequences a step; default: the recipe's")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=25, help="steps a turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="three short rounds")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    rounds, steps = (3, 10) if options.quick else (options.rounds, options.steps)

    with tempfile.TemporaryDirectory() as temporary:
        folder, recipe = Path(temporary), find(options.recipe)
        stage = recipe.stages[0]
        prepare(TEXT, learn_tokenizer(TEXT, options.vocab_size).tokenizer, folder / "shards")
        model = recipe.model(options.vocab_size).initialized(0)
        save_model(folder / "model", Checkpoint(model=model, tokenizer=Shards.load(folder / "shards").tokenizer))
        size = options.batch_size or stage.batch_size
        setting = Setting(options.recipe, folder, size, steps, options.threads)
        batches = setting.batches()
        tokens = sum(batch.num_tokens for batch in batches)
        speeds = contest(setting, tokens, rounds)

    packed = tokens / sum(batch["input_ids"].numel() for batch in batches)
    unpacked = tokens / sum(batch.num_sequences * int(batch.lengths.max()) for batch in batches)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{options.recipe}, {parameters:,} parameters, vocabulary {options.vocab_size:,}")
    print(
        f"{size} sequences of up to {stage.length} tokens a step; rows filled {packed:.1%} packed, {unpacked:.1%} padded"
    )
    print(
        f"torch {torch.__version__}, transformers {version('transformers')}, {options.threads} threads, "
        f"{rounds} rounds of {steps} steps\n"
    )
    print(f"{'tokens/s':36} {'median':>8} {'lowest':>8} {'highest':>8}   bertsmith is times as fast, median (range)")
    ratios = {}
    for name, values in speeds.items():
        pairs = [a / b for a, b in zip(speeds["bertsmith"], values, strict=True)]
        ratios[name] = statistics.median(pairs)
        spread = f"{ratios[name]:.2f} ({min(pairs):.2f} to {max(pairs):.2f})"
        print(f"{name:36} {statistics.median(values):8,.0f} {min(values):8,.0f} {max(values):8,.0f}   {spread}")
    if options.json:
        named = {
            "transformers_float32": ratios["transformers float32"],
            "transformers_bfloat16": ratios["transformers bfloat16 autocast"],
            "transformers_best": min(ratio for name, ratio in ratios.items() if name.startswith("transformers")),
            "its_own_float32": ratios["bertsmith float32"],
        }
        recipe_name = options.recipe.split(":")[-1]
        print(json.dumps({f"{recipe_name}_vs_{name}": round(ratio, 3) for name, ratio in named.items()}))


if __name__ == "__main__":
    main()
