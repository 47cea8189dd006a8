"""Put a finished run into the package as the model `small-english`: 16-bit weights, a card, what has to be attributed.

    python benchmarks/measure_blimp.py --model RUN --text CORPUS/train --json | tail -1 > blimp.json
    python benchmarks/publish_small_english.py RUN CORPUS --blimp blimp.json --machine "one H100"

RUN is the run folder of a pretraining, CORPUS what `make_small_english.py` built. Every figure of the card is read from
their files, or measured here on the held-out text with the weights as they are stored.
"""

import argparse
import json
import shutil
from pathlib import Path
from string import Template
from typing import Any

from bertsmith.checkpoints import describe, load_model, save_model
from bertsmith.history import History
from bertsmith.shipped import DEFAULT
from bertsmith.tasks import masked_lm_loss

HERE = Path(__file__).resolve().parent
HOME = HERE.parent / "src" / "bertsmith" / "shipped_models" / DEFAULT
MOST_BYTES = 20_000_000
POINTS = 12  # of the loss curve


def main() -> None:
    """Publish, and print the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--blimp", type=Path, required=True, help="the last line that measure_blimp.py --json printed")
    parser.add_argument("--machine", required=True, help="what it was trained on, for the card")
    parser.add_argument("--into", type=Path, default=HOME)
    options = parser.parse_args()
    save_model(options.into, load_model(options.run), storage="float16", replace=True)
    shutil.copy(options.corpus / "ATTRIBUTION.md", options.into)
    size = sum(file.stat().st_size for file in options.into.rglob("*") if file.is_file())
    if size > MOST_BYTES:
        raise SystemExit(f"{options.into}: {size:,} bytes, and a model that ships has at most {MOST_BYTES:,}")
    corpus = json.loads((options.corpus / "corpus.json").read_text(encoding="utf-8"))
    values = {
        **of_model(options.into, size),
        **of_corpus(corpus),
        **of_run(History.load(options.run), corpus["shards"]["train_tokens"]),
        **of_blimp(json.loads(options.blimp.read_text(encoding="utf-8"))),
        "heldout": of_heldout(options.into, options.corpus / "heldout"),
        "machine": options.machine,
    }
    card = Template((HERE / "small_english_card.md").read_text(encoding="utf-8")).substitute(values)
    (options.into / "README.md").write_text(card, encoding="utf-8")
    print(card)


def of_model(folder: Path, size: int) -> dict[str, Any]:
    """Sizes of the model as it is stored."""
    described = describe(folder)
    sizes = described["sizes"]
    return {
        "layers": sizes["num_hidden_layers"],
        "hidden_size": sizes["hidden_size"],
        "vocab_size": f"{sizes['vocab_size']:,}",
        "max_length": sizes["max_position_embeddings"],
        "parameters": f"{described['parameters'] / 1e6:.1f} million",
        "megabytes": f"{size / 1e6:.1f}",
    }


def of_corpus(corpus: dict[str, Any]) -> dict[str, Any]:
    """The text by source."""
    rows = [
        f"{s['documents']:,} | {s['words']:,} | {s['heldout_documents']:,} documents, {s['heldout_words']:,} words"
        for s in corpus["sources"]
    ]
    return {
        "sources": table([s["name"], row, s["licence"]] for s, row in zip(corpus["sources"], rows, strict=True)),
        "train_tokens": f"{corpus['shards']['train_tokens']:,}",
        "fertility": f"{corpus['vocabulary']['fertility']:.2f}",
    }


def of_run(run: History, train_tokens: int) -> dict[str, Any]:
    """What the training was, what it cost, and how the held-out loss fell."""
    tokens = seconds = 0.0
    for stage, recipe in enumerate(run.stages):
        # Not every step is logged, so the logged ones stand for all.
        tokens += run.series("tokens", stage=stage).values.mean() * recipe["steps"]
        seconds += run.series("seconds", stage=stage).values.mean() * recipe["steps"]
    loss = run.series("heldout", "masked_lm", "loss")
    right = run.series("heldout", "masked_lm", "accuracy")
    points = sorted({round(i * (len(loss) - 1) / (POINTS - 1)) for i in range(POINTS)})
    stages = [f"{s['steps']:,} steps of {_sequences(s)} sequences of up to {s['length']} tokens" for s in run.stages]
    return {
        "recipe": run.record["recipe"]["name"],
        "stages": ", then ".join(stages),
        "tokens_seen": f"{tokens / 1e6:.0f} million",
        "epochs": f"{tokens / train_tokens:.1f}",
        "hours": f"{seconds / 3600:.1f}",
        "precision": run.record["precision"],
        **{name: f"{run.record['reference'][name]:.2f}" for name in ("uniform", "unigram")},
        "curve": table([f"{loss.steps[i]:,}", f"{loss.values[i]:.3f}", f"{right.values[i]:.1%}"] for i in points),
    }


def _sequences(stage: dict[str, Any]) -> str:
    first = stage.get("initial_batch_size")
    return f"{stage['batch_size']:,}" if first is None else f"{first:,} to {stage['batch_size']:,}"


def of_heldout(model: Path, folder: Path) -> str:
    """Loss on each source's held-out text, of the weights as they are stored."""
    checkpoint = load_model(model)
    rows = []
    for file in sorted(folder.glob("*.txt")):
        found = masked_lm_loss(checkpoint.model, checkpoint.tokenizer, file)
        rows.append([file.stem, f"{found.loss:.3f}", f"{found.accuracy:.1%}", f"{found.count:,}"])
    return table(rows)


def of_blimp(found: dict[str, Any]) -> dict[str, Any]:
    """BLiMP by phenomenon, a column for each model."""
    first = next(iter(found.values()))
    rows = [
        [term, *(f"{100 * result['linguistics_term'][term]['accuracy']:.1f}" for result in found.values())]
        for term in first["linguistics_term"]
    ]
    rows.append(["**all**", *(f"**{100 * result['overall']['accuracy']:.1f}**" for result in found.values())])
    return {
        "pairs": f"{first['overall']['pairs']:,}",
        "blimp_names": " | ".join(found),
        "blimp_lines": " | ".join("---" for _ in found),
        "blimp": table(rows),
    }


def table(rows: Any) -> str:
    """Rows of cells as a Markdown table's body."""
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


if __name__ == "__main__":
    main()
