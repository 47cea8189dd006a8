"""What the demo's pretraining is worth with few labels and with more: accuracy on dev, three seeds each.

    python benchmarks/measure_few_labels.py runs/demo/pretraining [--labels 200 500 1000]

Beside each other: the pretrained encoder, the same network without pretraining, TF-IDF with logistic regression. The test
file is not touched, so the demo's number of labels can be chosen here.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import fmean

from bertsmith.baselines import tfidf_logistic_regression
from bertsmith.checkpoints import load_model
from bertsmith.demo.chain import BATCH_SIZE, DATA, EPOCHS, SEEDS
from bertsmith.tasks import Classify, Finetuning, Labelled, random_twin, read_labelled


def strings(labelled: Labelled) -> tuple[list[str], list[str]]:
    return [str(text) for text in labelled.texts], [str(label) for label in labelled.labels]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--labels", type=int, nargs="+", default=[200, 500, 1000])
    options = parser.parse_args()
    pretrained = load_model(options.model)
    lines = (DATA / "train.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    dev = strings(read_labelled(DATA / "dev.tsv", Classify))
    print(f"{'labels':>6}  {'pretrained':24} {'not pretrained':24} TF-IDF")
    with tempfile.TemporaryDirectory() as temporary:
        few = Path(temporary) / "train.tsv"
        for labels in options.labels:
            few.write_text("".join(lines[: labels + 1]), encoding="utf-8")
            scores: dict[str, list[float]] = {"pretrained": [], "not pretrained": []}
            for seed in SEEDS:
                for name, start in (("pretrained", pretrained), ("not pretrained", random_twin(pretrained, seed))):
                    run = Finetuning(
                        task="classify",
                        model=start,
                        train=few,
                        dev=DATA / "dev.tsv",
                        epochs=EPOCHS,
                        batch_size=BATCH_SIZE,
                        seeds=(seed,),
                    )
                    scores[name].append(run.finish().mean)
            tfidf = tfidf_logistic_regression(strings(read_labelled(few, Classify)), dev, dev[0]).accuracy(dev[1])
            cells = (f"{fmean(s):.1%} ({min(s):.1%} to {max(s):.1%})" for s in scores.values())
            print(f"{labels:6,}  {''.join(f'{cell:25}' for cell in cells)}{tfidf:.1%}", flush=True)


if __name__ == "__main__":
    main()
