"""Pretraining speed on this machine, beside transformers: same model, same text, same sequences, in one run.

    python benchmarks/measure_pretraining.py [--recipe bert:mini] [--rounds 7] [--quick] [--json]

Each contestant lives in a process of its own, as it would for a user, and they take turns on the same batches, another one
first in each round; every round gives one ratio a pair, so that a machine whose speed drifts does not favour anybody. A step
is forward, backward, clipping and AdamW; drawing masks and packing is done beforehand for all. Speed is in real tokens
(padding not counted) a second.

- bertsmith: its training loop with the settings of `bertsmith pretrain` (packed rows, head on the predicted positions,
  bfloat16 stream where the CPU multiplies it), and the same in float32.
- transformers: `BertForPreTraining` from the same configuration, weights and sequences, padded to one length, float32; and
  under bfloat16 autocast; and both through torch.compile. Its attention is PyTorch's scaled_dot_product_attention, its
  default. All have the recipe's dropout, and torch's fused AdamW.
- the eager two, and the compiled bfloat16, with the memory setting that bertsmith's loop makes for itself, to show what that
  part is worth.
- a product of two square bfloat16 matrices, in the same turns: the rate that no step can reach. A step's useful
  operations are those of the encoder and of the head on the predicted positions.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
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
from bertsmith.text import Tokenizer, Vocabulary
from bertsmith.train import AdamW, Constant, Loop, Recipe, keep_freed_memory, precision_dtype
from bertsmith.train.measuring import weights_to_feed

TEXT = Path(__file__).parents[1] / "src" / "bertsmith" / "demo" / "data" / "reviews.txt.xz"
LEARNING_RATE = 1e-5
PRODUCT = 2048

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


def transformers(setting: Setting, *, autocast: bool, tuned_memory: bool = False, compiled: bool = False) -> Step:
    from transformers import BertForPreTraining

    if tuned_memory:
        keep_freed_memory()
    length = find(setting.recipe).stages[0].length
    batches = cycle([padded(batch, length) for batch in setting.batches()])
    model = BertForPreTraining.from_pretrained(setting.folder / "model", dtype=torch.float32).train()
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            loss = forward(**next(batches)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def multiplied() -> Step:
    """One product of two matrices of PRODUCT x PRODUCT."""
    one, other = torch.randn(2, PRODUCT, PRODUCT).bfloat16()
    return lambda: torch.mm(one, other)[0, 0].item()


def padded(batch: Batch, length: int) -> dict[str, torch.Tensor]:
    """The same sequences as transformers wants them: one a row, padded to one length, so that nothing compiles twice."""
    rows, longest = batch.num_sequences, length
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
    "transformers float32, compiled": lambda setting: transformers(setting, autocast=False, compiled=True),
    "transformers bfloat16, compiled": lambda setting: transformers(setting, autocast=True, compiled=True),
    "transformers float32, memory kept": lambda setting: transformers(setting, autocast=False, tuned_memory=True),
    "transformers bfloat16, memory kept": lambda setting: transformers(setting, autocast=True, tuned_memory=True),
    "transformers bfloat16, compiled, memory kept": lambda setting: transformers(
        setting, autocast=True, tuned_memory=True, compiled=True
    ),
    "matrix product": lambda _: multiplied(),
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


def contest(setting: Setting, tokens: int, rounds: int, names: Sequence[str]) -> dict[str, list[float]]:
    """Tokens a second of each contestant in each round (of the product, operations); a first round is not counted."""
    context = multiprocessing.get_context("spawn")
    speeds: dict[str, list[float]] = {name: [] for name in names}
    connections: dict[str, Connection] = {}
    for name in names:
        connections[name], theirs = context.Pipe()
        context.Process(target=compete, args=(theirs, name, setting), daemon=True).start()
        theirs.close()
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in [*names, *names][first : first + len(names)]:
            connection = connections[name]
            connection.send(True)
            seconds = connection.recv()
            if turn:
                speeds[name].append((2 * PRODUCT**3 * setting.steps if name == "matrix product" else tokens) / seconds)
        print(f"round {turn} of {rounds}", file=sys.stderr)
    for connection in connections.values():
        connection.send(False)
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="bert:mini")
    parser.add_argument("--vocab-size", type=int, help="default: 8,000, or 30,522 from 512 hidden units on")
    parser.add_argument("--batch-size", type=int, default=32, help="sequences a step")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10, help="steps a turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--without", nargs="*", default=[], metavar="WORD", help="leave out contestants with such a word"
    )
    parser.add_argument("--quick", action="store_true", help="three short rounds, nothing compiled")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    rounds, steps = (3, min(5, options.steps)) if options.quick else (options.rounds, options.steps)
    left_out = [*options.without, *(["compiled"] if options.quick else [])]
    names = [name for name in CONTESTANTS if not any(word in name for word in left_out)]
    vocab_size = options.vocab_size or (8_000 if find(options.recipe).encoder.hidden_size < 512 else 30_522)

    with tempfile.TemporaryDirectory() as temporary:
        folder, recipe = Path(temporary), find(options.recipe)
        stage = recipe.stages[0]
        # What the text does not fill of the vocabulary is there in the model: its size is what a step pays for.
        learned = learn_tokenizer(TEXT, min(vocab_size, 8_000)).tokenizer
        tokenizer = Tokenizer(Vocabulary((*learned.vocabulary.tokens, *filler(vocab_size - len(learned.vocabulary)))))
        prepare(TEXT, tokenizer, folder / "shards")
        model = recipe.model(vocab_size).initialized(0)
        save_model(folder / "model", Checkpoint(model=model, tokenizer=tokenizer))
        setting = Setting(options.recipe, folder, options.batch_size, steps, options.threads)
        batches = setting.batches()
        tokens = sum(batch.num_tokens for batch in batches)
        speeds = contest(setting, tokens, rounds, names)

    product = speeds.pop("matrix product")
    packed = tokens / sum(batch["input_ids"].numel() for batch in batches)
    unpacked = tokens / sum(batch.num_sequences * stage.length for batch in batches)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{options.recipe}, {parameters:,} parameters, vocabulary {vocab_size:,}")
    print(
        f"{options.batch_size} sequences of up to {stage.length} tokens a step; rows filled {packed:.1%} packed, "
        f"{unpacked:.1%} padded"
    )
    print(
        f"torch {torch.__version__}, transformers {version('transformers')}, {options.threads} threads, "
        f"{rounds} rounds of {steps} steps\n"
    )
    print(f"{'tokens/s':44} {'median':>8} {'lowest':>8} {'highest':>8}   bertsmith is times as fast, median (range)")
    ratios = {}
    for name, values in speeds.items():
        pairs = [a / b for a, b in zip(speeds["bertsmith"], values, strict=True)]
        ratios[name] = statistics.median(pairs)
        spread = f"{ratios[name]:.2f} ({min(pairs):.2f} to {max(pairs):.2f})"
        print(f"{name:44} {statistics.median(values):8,.0f} {min(values):8,.0f} {max(values):8,.0f}   {spread}")
    useful = operations(recipe, vocab_size, batches) / tokens
    shares = [useful * ours / theirs for ours, theirs in zip(speeds["bertsmith"], product, strict=True)]
    share = statistics.median(shares)
    print(
        f"\nbfloat16 product of {PRODUCT} x {PRODUCT}: {statistics.median(product) / 1e9:,.0f} GFLOP/s; useful operations of a "
        f"bertsmith step at {share:.0%} of that rate ({min(shares):.0%} to {max(shares):.0%})"
    )
    if options.json:
        named = {
            "transformers_float32": ratios.get("transformers float32"),
            "transformers_bfloat16": ratios.get("transformers bfloat16 autocast"),
            "transformers_best": min(ratio for name, ratio in ratios.items() if name.startswith("transformers")),
            "transformers_best_as_it_comes": min(
                ratio for name, ratio in ratios.items() if name.startswith("transformers") and "memory" not in name
            ),
            "its_own_float32": ratios.get("bertsmith float32"),
        }
        recipe_name = options.recipe.split(":")[-1]
        line = {f"{recipe_name}_vs_{name}": round(ratio, 3) for name, ratio in named.items() if ratio}
        print(json.dumps(line | {f"{recipe_name}_share_of_product": round(share, 3)}))


def filler(count: int) -> list[str]:
    """Tokens that no text has."""
    return [f"[unused{number}]" for number in range(count)]


def operations(recipe: Recipe, vocab_size: int, batches: Sequence[Batch]) -> float:
    """Useful floating-point operations of a step on each of the batches, forward and backward, added up."""
    hidden, layers = recipe.encoder.hidden_size, recipe.encoder.num_hidden_layers
    weights = weights_to_feed(recipe, vocab_size)
    total = 0.0
    for batch in batches:
        pairs = float((batch.lengths.double() ** 2).sum())
        total += batch.num_tokens * weights + 2 * layers * hidden * pairs
        total += len(batch.label_positions) * hidden * (vocab_size + hidden)
    return 6 * total


if __name__ == "__main__":
    main()
