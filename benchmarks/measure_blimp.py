"""BLiMP: how often a model finds the grammatical one of two sentences likelier, beside what it has to beat.

    python benchmarks/measure_blimp.py --model M [--text T ...] [--limit N] [--device cuda] [--json]

Beside each other: the model (pseudo-log-likelihood, Salazar et al. 2020, and the variant of Kauf and Ivanova 2023), the
same model without its training, and a 5-gram model with modified Kneser-Ney smoothing that was trained on the text T, which
should be the model's own. BLiMP is the folder `data` of the set `blimp`; by default `../shared/data/get blimp` finds it.
The last line with `--json` is one JSON object.
"""

import argparse
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from bertsmith.baselines import KneserNey
from bertsmith.checkpoints import Checkpoint, load_model
from bertsmith.cli.terminal import Bars, table
from bertsmith.data import read_documents
from bertsmith.shipped import DEFAULT
from bertsmith.tasks import (
    PairScores,
    Paradigm,
    pseudo_likelihoods,
    random_twin,
    read_minimal_pairs,
    score_minimal_pairs,
)
from bertsmith.tasks.pseudo_likelihood import Variant
from bertsmith.text import Tokenizer, split_sentences
from bertsmith.text.words import WordCache, find_words

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
Scorer = Callable[[Sequence[str]], np.ndarray]


def main() -> None:
    """Score everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT, help=f"a model with a masked-LM head (default: {DEFAULT})")
    parser.add_argument("--text", nargs="+", help="text files or folders for the 5-gram model; none: leave it out")
    parser.add_argument("--pairs", type=Path, help="BLiMP's folder of JSON lines")
    parser.add_argument("--limit", type=int, help="pairs of each of the 67 files, at most; the same ones each time")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    paradigms = read_minimal_pairs(options.pairs or blimp())
    checkpoint = load_model(options.model)
    checkpoint.model.to(options.device)
    with Bars() as bars:
        found = scores(checkpoint, paradigms, options.limit, bars)
        if options.text:
            bars("5-gram", 0, 1)
            scorer = five_grams(checkpoint.tokenizer, options.text)
            found["5-gram, Kneser-Ney"] = score_minimal_pairs(paradigms, scorer, limit=options.limit)
            bars("5-gram", 1, 1)
    show(found)
    if options.json:
        print(json.dumps({name: result.as_dict() for name, result in found.items()}))


def scores(
    checkpoint: Checkpoint, paradigms: Sequence[Paradigm], limit: int | None, bars: Bars
) -> dict[str, PairScores]:
    """The model in both variants, and its random twin."""
    found = {
        "model": masked_lm(checkpoint, "original", bars, "model"),
        "model, rest of word hidden": masked_lm(checkpoint, "within_word_l2r", bars, "rest of word hidden"),
    }
    twin = random_twin(checkpoint, seed=0)
    twin.model.to(next(checkpoint.model.parameters()).device)
    found["not trained"] = masked_lm(twin, "original", bars, "not trained")
    return {name: score_minimal_pairs(paradigms, scorer, limit=limit) for name, scorer in found.items()}


def masked_lm(checkpoint: Checkpoint, variant: Variant, bars: Bars, title: str) -> Scorer:
    """Pseudo-log-likelihoods by a masked language model."""

    def progress(phase: str, done: int, total: int | None, note: str = "") -> None:
        bars(title, done, total, note)

    def score(texts: Sequence[str]) -> np.ndarray:
        model, tokenizer = checkpoint.model, checkpoint.tokenizer
        return pseudo_likelihoods(model, tokenizer, texts, variant=variant, progress=progress).log_likelihoods

    return score


def five_grams(tokenizer: Tokenizer, text: Sequence[str]) -> Scorer:
    """Log-likelihoods by a 5-gram model of words and marks, split and lower-cased as the model's tokenizer does it."""
    basic = tokenizer.rules.basic_tokenizer()
    parts = WordCache(lambda word: [token.text for token in basic.tokens(word)])

    def words(sentence: str) -> list[str]:
        found = find_words(sentence, split_chinese=tokenizer.rules.split_chinese)
        return [part for word in found for part in parts[word]]

    def sentences() -> Iterator[list[str]]:
        for document in read_documents(text):
            for paragraph in document.text.split("\n"):
                for sentence in split_sentences(paragraph):
                    if found := words(sentence):
                        yield found

    model = KneserNey(sentences())
    return lambda texts: model.log_likelihoods([words(text) for text in texts])


def show(found: dict[str, PairScores]) -> None:
    """Accuracies in percent: a column for each model, a row for each phenomenon."""
    first = next(iter(found.values()))
    rows = [
        (term, *(f"{result.groups['linguistics_term'][term].accuracy:.1%}" for result in found.values()))
        for term in first.groups.get("linguistics_term", {})
    ]
    rows += [("all", *(f"{result.overall.accuracy:.1%}" for result in found.values()))]
    rows += [("95 %", *(f"{result.overall.low:.1%} to {result.overall.high:.1%}" for result in found.values()))]
    if any(result.overall.ties for result in found.values()):
        rows += [("equally likely", *(f"{result.overall.ties:,}" for result in found.values()))]
    table([f"{first.overall.pairs:,} pairs", *found], rows)


def blimp() -> Path:
    """BLiMP's folder in the shared data."""
    found = subprocess.run([SHARED / "get", "blimp"], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip()) / "data"


if __name__ == "__main__":
    main()
