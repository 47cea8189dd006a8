"""What the BERT paper claims, at a size that two cores can check: is pretraining worth it, both ways, with next sentence?

    python benchmarks/measure_claims.py --data SHARDS --out FOLDER [--tokens 6M] [--seeds 0 1 2 3 4] [--limit 2000]

Three encoders of the shape of `modern:mini` are pretrained on the same sentence pairs in the same order, from the same
weights, for the same number of tokens (Devlin et al. 2018, §5.1, table 5): by masked LM, by masked LM and next sentence, and
from left to right. Each is fine-tuned as `finetune` does it by default on paraphrases (MRPC), names (WNUT-17, WikiAnn), word
classes (EWT) and answers (SQuAD), with every seed, beside the same network without pretraining. A left-to-right encoder stays
so in fine-tuning.

Then a model (`--model`; the shipped one if none is given) and its random twin on all the sets of `measure_finetuning.py`.

Everything is kept in FOLDER as it comes: the same command goes on where it was broken off. `--parts` chooses. A difference
is called one if the 95 % confidence interval of the differences, seed by seed, has no zero in it.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from labelled_sets import SETS, Results, finetuning, metric_of

from bertsmith.checkpoints import Checkpoint, load_model
from bertsmith.cli.terminal import table
from bertsmith.config import override
from bertsmith.data import SentencePairs
from bertsmith.nn import Causal
from bertsmith.objectives import CausalLM, MaskedLM, NextSentence
from bertsmith.recipes import find
from bertsmith.shipped import DEFAULT
from bertsmith.tasks import Finetuning, random_twin
from bertsmith.tasks.metrics import confidence_interval, mean_and_spread
from bertsmith.train import Pretraining, Recipe, read_log

OF_ENCODERS = ("mrpc", "wnut", "wikiann", "ewt", "squad")
RANDOM = "not pretrained"


def encoders() -> dict[str, Recipe]:
    """The recipes beside each other, each of 1,000 steps."""
    base = find("modern:mini")
    stage = replace(
        override(base, ["stages.0.schedule.decay=0.2"]).stages[0], instances=SentencePairs(), initial_batch_size=None
    )
    base = replace(base, stages=(stage.lasting(1000),))

    def with_objectives(*objectives: Any) -> Recipe:
        return replace(base, stages=tuple(replace(stage, objectives=objectives) for stage in base.stages))

    left_to_right = with_objectives(CausalLM())
    return {
        "masked LM": with_objectives(MaskedLM()),
        "and next sentence": with_objectives(MaskedLM(), NextSentence()),
        "left to right": replace(
            left_to_right,
            encoder=replace(left_to_right.encoder, masks={"tokens": Causal()}),
            stages=tuple(replace(stage, masking=None) for stage in left_to_right.stages),
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="shards with a held-out split, for the encoders")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=float, default=6.0, help="of pretraining, in millions")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--limit", type=int, default=2000, help="training examples of a set")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--model", type=Path, default=Path(DEFAULT))
    parser.add_argument("--sets", nargs="+", choices=list(SETS), help="other sets than these")
    parser.add_argument("--parts", nargs="+", default=["encoders", "model"], choices=["encoders", "model"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = Results(options.out / "results.jsonl")
    options.out.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {}
    if "encoders" in options.parts and options.data is None:
        parser.error("--data SHARDS is needed to pretrain the encoders")
    if "encoders" in options.parts:
        told["encoders"] = of_encoders(options, results)
    if "model" in options.parts:
        sides = {"pretrained": lambda _: load_model(options.model), RANDOM: twins(options.model)}
        told["model"] = compared("model", sides, options.sets or list(SETS), options, results)
    if options.json:
        print(json.dumps(told))


def of_encoders(options: argparse.Namespace, results: Results) -> dict[str, Any]:
    """Pretrain what is not pretrained yet, and fine-tune."""
    sides: dict[str, Callable[[int], Checkpoint]] = {}
    for name, recipe in encoders().items():
        folder = options.out / name.replace(" ", "-")
        heldout = results.once({"pretrained": name}, lambda r=recipe, f=folder: pretrain(r, options, f))
        print(f"{name}: {heldout['tokens']:,} tokens, held out {json.dumps(heldout['heldout'])}", flush=True)
        sides[name] = lambda _, folder=folder: load_model(folder)
    sides[RANDOM] = twins(options.out / "masked-LM")
    return compared("encoders", sides, options.sets or OF_ENCODERS, options, results)


def pretrain(recipe: Recipe, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The run, gone on with if it was begun; what it saw and its last look at held-out text."""
    stage = recipe.stages[0]
    steps = round(options.tokens * 1e6 / (stage.batch_size * stage.length))  # as if all sequences were full
    run = Pretraining(recipe=recipe.lasting(steps / recipe.steps), data=options.data, out=folder)
    for _ in run.run(resume=True):
        pass
    log = list(read_log(folder))
    tokens = [line["tokens"] for line in log if "tokens" in line]
    looks = [line["heldout"] for line in log if "heldout" in line]
    return {"tokens": round(sum(tokens) / len(tokens) * steps), "steps": steps, "heldout": looks[-1]}


def twins(model: Path) -> Callable[[int], Checkpoint]:
    """The same network without pretraining, other weights for each seed."""
    return lambda seed: random_twin(load_model(model), seed)


def compared(
    part: str,
    sides: dict[str, Callable[[int], Checkpoint]],
    sets: list[str] | tuple[str, ...],
    options: argparse.Namespace,
    results: Results,
) -> dict[str, Any]:
    """Every side on every set with every seed, and how each differs from the first."""
    rows: dict[str, Any] = {}
    for name in sets:
        scores: dict[str, list[float]] = {side: [] for side in sides}
        for seed in options.seeds:
            for side, load in sides.items():
                key = {"part": part, "data": name, "side": side, "seed": seed, "limit": options.limit}
                line = results.once(
                    key, lambda load=load, seed=seed, name=name: finetuned(name, load(seed), seed, options)
                )
                scores[side].append(line["score"])
        rows[name] = {"metric": line["metric"], "always": line["always"], "scores": scores}
    show(rows, list(sides))
    return rows


def finetuned(name: str, checkpoint: Checkpoint, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The best epoch's score on dev, as `finetune` picks it."""
    with tempfile.TemporaryDirectory() as folder:
        job: Finetuning = finetuning(
            name, checkpoint, Path(folder), options.limit, epochs=options.epochs, seeds=(seed,)
        )
        metric = metric_of(name, job)
        scores = [report.dev for report in job.run() if report.dev is not None]
        best = max(scores, key=lambda dev: dev.metrics[metric])
        return {"metric": metric, "score": best.metrics[metric], "always": best.majority}


def show(rows: dict[str, Any], sides: list[str]) -> None:
    first, *others = sides
    lines = []
    for name, row in rows.items():
        cells = [
            f"{mean_and_spread(scores)[0]:.3f} ± {mean_and_spread(scores)[1]:.3f}" for scores in row["scores"].values()
        ]
        differences = []
        for side in others:
            gaps = [a - b for a, b in zip(row["scores"][first], row["scores"][side], strict=True)]
            inside = confidence_interval(gaps)
            differences.append(
                f"{mean_and_spread(gaps)[0]:+.3f}" + (f" ({inside[0]:+.3f} to {inside[1]:+.3f})" if inside else "")
            )
        lines.append((name, row["metric"], *cells, *differences))
    table(["data", "metric", *sides, *(f"{first} less {side}" for side in others)], lines)


if __name__ == "__main__":
    main()
