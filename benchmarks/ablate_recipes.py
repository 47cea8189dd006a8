"""Which choices of a recipe are worth their time: variants of it, each trained for the same time on the same text.

    python benchmarks/ablate_recipes.py --data SHARDS [--recipe modern:mini] [--minutes 5] [--seeds 3]
        [--variants as-it-is adamw bert@0.33] [--define NAME path=value ...] [--list] [--json]

Each run is a process of its own, one at a time, in rounds: every variant once, then every variant again with the next seed,
in another order. First each variant is run short, `--trials` times in the same rounds, with all its stages, schedules and
ramps, to see what one of its steps takes here; then its number of steps is set so that its schedules end with its time. The
time is that of the training steps, waiting for data included. With `--threads 1` it is processor time, which a busy machine
changes little, and several such commands can share one; otherwise it is the clock's, and the machine must be quiet.

Figures are held-out masked-LM losses (nats, float32) under one fixed draw of masks, single tokens at 15 %, the same for all
variants: on running text as `Segments` cuts it, which decides, and on the sentence pairs of 2018. "difference" is from the
first variant, seed by seed.

A variant is a name of `VARIANTS` (`--list`), one of `--define`, or either with `@share`: that share of the time. A define is
a list of what `--set` takes, after `recipe=NAME` if it is not about `--recipe`. Without `--data` the demo's reviews are used.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import torch

from bertsmith.checkpoints import load_model
from bertsmith.config import override, to_dict
from bertsmith.data import Instances, Loader, Masking, Segments, SentencePairs, Shards, learn_tokenizer, prepare
from bertsmith.objectives import MaskedLM
from bertsmith.recipes import find
from bertsmith.train import Pretraining, Recipe, Step, evaluate
from bertsmith.train.session import HELDOUT_BATCH, HELDOUT_RATE, HELDOUT_SEED

TEXT = Path(__file__).parents[1] / "src" / "bertsmith" / "demo" / "data" / "reviews.txt.xz"
HELDOUT_LENGTH = 128
NEVER = 1 << 40

Change = Callable[[Recipe], Recipe]

BLOCK = "encoder.layers.*.block"


def setting(*assignments: str) -> Change:
    """What `--set` does."""
    return lambda recipe: override(recipe, assignments)


def learned_positions(recipe: Recipe) -> Recipe:
    channels = to_dict(recipe.encoder.channels)
    channels["tokens"].append({"kind": "position", "max_position_embeddings": recipe.encoder.max_length})
    return setting(f"encoder.channels={json.dumps(channels)}", f"{BLOCK}.attention.query_key=[]")(recipe)


def plain_feed_forward(recipe: Recipe) -> Recipe:
    part = {"kind": "feed_forward", "intermediate_size": 4 * recipe.encoder.hidden_size, "bias": False}
    return setting(f"{BLOCK}.feed_forward={json.dumps(part)}")(recipe)


def peaks(factor: float) -> Change:
    def change(recipe: Recipe) -> Recipe:
        values = to_dict(recipe)["stages"]
        return override(
            recipe, [f"stages.{i}.schedule.peak={s['schedule']['peak'] * factor}" for i, s in enumerate(values)]
        )

    return change


def batches(factor: float) -> Change:
    def change(recipe: Recipe) -> Recipe:
        stages = tuple(
            replace(
                s,
                batch_size=round(s.batch_size * factor),
                initial_batch_size=s.initial_batch_size and round(s.initial_batch_size * factor),
            )
            for s in recipe.stages
        )
        return replace(recipe, stages=stages)

    return change


def first_stage_only(recipe: Recipe) -> Recipe:
    """All at 128 tokens, with the last fifth of the steps for the way down."""
    return override(replace(recipe, stages=recipe.stages[:1]), ["stages.0.schedule.decay=0.2"])


def bert(recipe: Recipe, *, tuned: bool) -> Recipe:
    """2018's recipe of the same size; tuned, with what is known to help a short run of it, and AdamW."""
    theirs: Recipe = find(f"bert:{recipe.name.partition(':')[2]}")
    if not tuned:
        return theirs
    own = recipe.encoder.initializer_range
    return setting(
        f"encoder.initializer_range={own}",
        "encoder.embedding_dropout=0.0",
        f"{BLOCK}.attention.dropout=0.0",
        f"{BLOCK}.residual.dropout=0.0",
        'stages.*.optimizer={"kind": "adamw", "beta2": 0.98}',
        f"stages.0.batch_size={recipe.stages[0].batch_size}",
        f"stages.1.batch_size={recipe.stages[-1].batch_size}",
        'stages.0.schedule={"kind": "warmup_linear", "peak": 0.001, "final": 0.0001, "warmup_steps": 45000}',
        'stages.1.schedule={"kind": "warmup_linear", "peak": 0.0001}',
    )(theirs)


QK_NORM = '{"kind": "query_key_norm"}'
ROTARY = '{"kind": "rotary", "max_position_embeddings": 512}'

VARIANTS: dict[str, Change] = {
    "as-it-is": setting(),
    "bert": partial(bert, tuned=False),
    "bert-tuned": partial(bert, tuned=True),
    # blocks
    "post-norm": setting(
        f'{BLOCK}.residual={{"kind": "post_norm", "dropout": 0.0}}', f"{BLOCK}.attention_residual=null"
    ),
    "first-norm": setting(f"{BLOCK}.attention_residual=null"),
    "biases": setting(
        f"{BLOCK}.attention.bias=true",
        f"{BLOCK}.feed_forward.bias=true",
        f"{BLOCK}.residual.bias=true",
        "encoder.layer_norm_bias=true",
    ),
    "dropout": setting(
        "encoder.embedding_dropout=0.1",
        f"{BLOCK}.attention.dropout=0.1",
        f"{BLOCK}.residual.dropout=0.1",
        "encoder.layers.0.block.attention_residual.dropout=0.1",
    ),
    "plain-feed-forward": plain_feed_forward,
    "swiglu": setting(f"{BLOCK}.feed_forward.activation=silu"),
    "learned-positions": learned_positions,
    "query-key-norm": setting(f"{BLOCK}.attention.query_key=[{QK_NORM}, {ROTARY}]"),
    "head-gate": setting(f'{BLOCK}.attention.gate={{"kind": "head"}}'),
    "zero-outputs": setting("encoder.output_initializer_range=0.0"),
    "equal-outputs": setting("encoder.output_initializer_range=null"),
    # what is learned from
    "masking-15": setting("stages.*.masking.rate=0.15"),
    "masking-30-to-15": setting("stages.0.masking.final_rate=0.15", "stages.1.masking.rate=0.15"),
    "masking-40": setting("stages.*.masking.rate=0.4"),
    "whole-words": setting('stages.*.masking.choice={"kind": "whole_words"}'),
    "spans": setting('stages.*.masking.choice={"kind": "spans"}'),
    "next-sentence": setting(
        'stages.*.instances={"kind": "sentence_pairs"}',
        'stages.*.objectives=[{"kind": "masked_lm"}, {"kind": "next_sentence"}]',
    ),
    "only-128": first_stage_only,
    # how
    "adamw": setting('stages.*.optimizer={"kind": "adamw", "beta2": 0.98}'),
    "adamw-1e-3": setting('stages.*.optimizer={"kind": "adamw", "beta2": 0.98}', "stages.*.schedule.peak=0.001"),
    "adamw-2e-3": setting('stages.*.optimizer={"kind": "adamw", "beta2": 0.98}', "stages.*.schedule.peak=0.002"),
    "muon": setting('stages.*.optimizer={"kind": "muon", "adamw": {"kind": "adamw", "beta2": 0.98}}'),
    "matrices-twice-as-fast": setting("stages.*.optimizer.rate_factor=2.0"),
    "half-peak": peaks(0.5),
    "double-peak": peaks(2.0),
    "half-batch": batches(0.5),
    "double-batch": batches(2.0),
    "no-ramp": setting("stages.*.initial_batch_size=null"),
    "linear-decay": setting("stages.*.schedule.shape=linear"),
    "float32": setting("precision=float32"),
}


@dataclass(frozen=True)
class Variant:
    """A recipe under a name; `share` is its part of the time."""

    name: str
    recipe: Recipe
    share: float = 1.0


@dataclass(frozen=True)
class Result:
    """One run: its steps, the real tokens in them, their seconds, and the held-out losses by kind of instance."""

    steps: int
    tokens: int
    seconds: float
    segments: float
    pairs: float


def pace(recipe: Recipe, data: Path, steps: int, threads: int) -> float:
    """Seconds that a step of the recipe takes on average, from a run of about `steps` with all its stages."""
    short = recipe.lasting(steps / recipe.steps)
    with tempfile.TemporaryDirectory() as folder:
        seconds = [taken for _, taken in trained(short, data, Path(folder) / "run", threads)]
    return (sum(seconds[1:]) + seconds[1]) / len(seconds)  # the first step finds its memory


def run(recipe: Recipe, data: Path, out: Path, threads: int) -> Result:
    """Train the recipe to its end and look at held-out text."""
    updates, seconds = zip(*trained(recipe, data, out, threads), strict=True)
    losses = {type(i): _heldout_loss(out, data, i) for i in (Segments(), SentencePairs())}
    return Result(
        steps=len(updates),
        tokens=sum(update.tokens for update in updates),
        seconds=sum(seconds),
        segments=losses[Segments],
        pairs=losses[SentencePairs],
    )


def trained(recipe: Recipe, data: Path, out: Path, threads: int) -> Iterator[tuple[Step, float]]:
    """Each step of a run, with the seconds it took: of the processor where there is one thread, else of the clock."""
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    run = Pretraining(
        recipe=recipe,
        data=data,
        out=out,
        evaluate_every=NEVER,
        save_every=NEVER,
        save_minutes=NEVER,
        heldout_sequences=1,
    )
    before = None
    for report in run.run():
        after = clock()
        yield (
            report.update,
            report.update.seconds if before is None else after - before,
        )  # not what comes before the first
        before = after


def _heldout_loss(out: Path, data: Path, instances: Instances) -> float:
    """The loss on up to 1,024 held-out sequences of 128 tokens under masks that never change."""
    loader = Loader(Shards.load(data, "heldout"), instances, length=HELDOUT_LENGTH, seed=HELDOUT_SEED)
    batches = list(islice(loader.one_epoch(HELDOUT_BATCH, Masking(rate=HELDOUT_RATE)), 1024 // HELDOUT_BATCH))
    measures = evaluate(load_model(out).model, (MaskedLM(),), batches)
    assert measures is not None
    return float(measures["masked_lm"].loss)


def alone(function: Callable, *arguments: object) -> object:
    """What `function` gives in a new process, while nothing else runs."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def rounds(variants: Sequence[Variant], count: int) -> list[tuple[int, Variant]]:
    """`count` rounds over the variants, each beginning with another one."""
    return [(turn, variants[(place + turn) % len(variants)]) for turn in range(count) for place in range(len(variants))]


def measure(variants: Sequence[Variant], data: Path, options: argparse.Namespace) -> dict[str, float]:
    """Seconds a step of each variant: the median of its trials."""
    seconds: dict[str, list[float]] = {variant.name: [] for variant in variants}
    for turn, variant in rounds(variants, options.trials):
        taken = alone(pace, variant.recipe, data, options.trial_steps, options.threads)
        assert isinstance(taken, float)
        seconds[variant.name].append(taken)
        print(f"trial {turn + 1}: {variant.name} takes {taken:.3f} s a step", file=sys.stderr, flush=True)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def compete(variants: Sequence[Variant], data: Path, out: Path, options: argparse.Namespace) -> dict[str, list[Result]]:
    """The results of each variant, seed by seed."""
    paces = measure(variants, data, options)
    results: dict[str, list[Result]] = {variant.name: [] for variant in variants}
    for seed, variant in rounds(variants, options.seeds):
        steps = 60 * options.minutes * variant.share / paces[variant.name]
        recipe = replace(variant.recipe.lasting(steps / variant.recipe.steps), seed=options.first_seed + seed)
        result = alone(run, recipe, data, out / f"{variant.name}-{seed}", options.threads)
        assert isinstance(result, Result)
        results[variant.name].append(result)
        print(f"seed {seed}: {variant.name} {result}", file=sys.stderr, flush=True)
    return results


def summary(results: Mapping[str, list[Result]]) -> dict[str, dict[str, object]]:
    """By variant: mean and spread of its losses, of its differences from the first, and what it did."""
    first = next(iter(results.values()))
    table: dict[str, dict[str, object]] = {}
    for name, runs in results.items():
        losses = [one.segments for one in runs]
        differences = [one.segments - other.segments for one, other in zip(runs, first, strict=True)]
        table[name] = {
            "segments": statistics.mean(losses),
            "lowest": min(losses),
            "highest": max(losses),
            "difference": statistics.mean(differences),
            "least": min(differences),
            "most": max(differences),
            "pairs": statistics.mean(one.pairs for one in runs),
            "steps": runs[0].steps,
            "tokens": round(statistics.mean(one.tokens for one in runs)),
            "seconds": statistics.mean(one.seconds for one in runs),
            "runs": [asdict(one) for one in runs],
        }
    return table


def show(table: Mapping[str, dict[str, object]]) -> None:
    head = f"{'variant':26} {'loss':>7} {'lowest':>7} {'highest':>7}  {'difference (range)':>24}"
    print(f"{head} {'on pairs':>8} {'steps':>7} {'tokens':>12} {'seconds':>8}")
    for name, row in table.items():
        spread = f"{row['difference']:+.3f} ({row['least']:+.3f} to {row['most']:+.3f})"
        print(
            f"{name:26} {row['segments']:7.3f} {row['lowest']:7.3f} {row['highest']:7.3f}  {spread:>24} "
            f"{row['pairs']:8.3f} {row['steps']:7,} {row['tokens']:12,} {row['seconds']:8.1f}"
        )


def choose(names: Sequence[str], defined: Mapping[str, Sequence[str]], recipe: Recipe) -> list[Variant]:
    """The variants of these names."""
    variants = []
    for name in names:
        plain, _, share = name.partition("@")
        base, assignments = recipe, list(defined.get(plain, ()))
        if assignments and assignments[0].startswith("recipe="):
            base = find(assignments.pop(0).removeprefix("recipe="))
        if plain not in defined and plain not in VARIANTS:
            raise SystemExit(f"There is no variant {plain!r}. There are: {', '.join([*VARIANTS, *defined])}.")
        change = setting(*assignments) if plain in defined else VARIANTS[plain]
        variants.append(Variant(name, change(base), float(share or 1)))
    return variants


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of shards with a held-out split; default: the demo's reviews")
    parser.add_argument("--recipe", default="modern:mini")
    parser.add_argument("--set", nargs="+", default=[], metavar="PATH=VALUE", help="for the recipe of all variants")
    parser.add_argument(
        "--variants", nargs="+", default=["as-it-is", "bert-tuned"], help="names, the first to compare with"
    )
    parser.add_argument("--define", nargs="+", action="append", default=[], metavar=("NAME", "PATH=VALUE"))
    parser.add_argument("--list", action="store_true", help="names of variants, and nothing else")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training, for each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=3, help="short runs of each variant, to see how fast it is")
    parser.add_argument("--trial-steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="keep the run folders here")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    if options.list:
        print("\n".join(VARIANTS))
        return
    defined = {name: assignments for name, *assignments in options.define}
    variants = choose([*options.variants], defined, setting(*options.set)(find(options.recipe)))

    with tempfile.TemporaryDirectory() as temporary:
        data = options.data or Path(temporary) / "shards"
        if options.data is None:
            prepare(TEXT, learn_tokenizer(TEXT, 6000).tokenizer, data, heldout=0.05)
        shards = Shards.load(data)
        results = compete(variants, data, options.out or Path(temporary), options)
    table = summary(results)
    print(f"{options.recipe}, {options.minutes:g} minutes a run, {options.seeds} seeds; torch {torch.__version__}")
    print(f"{shards.tokens:,} tokens of text, vocabulary {len(shards.vocabulary):,}; {options.threads} threads\n")
    show(table)
    if options.json:
        print(json.dumps(table))


if __name__ == "__main__":
    main()
