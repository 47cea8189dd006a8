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
from bertsmith.demo.chain import DATA, few_labels, finetunings, strings
from bertsmith.tasks import Classify, read_labelled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--labels", type=int, nargs="+", default=[200, 500, 1000])
    options = parser.parse_args()
    pretrained = load_model(options.model)
    dev = strings(read_labelled(DATA / "dev.tsv", Classify))
    print(f"{'labels':>6}  {'pretrained':24} {'not pretrained':24} TF-IDF")
    with tempfile.TemporaryDirectory() as temporary:
        for labels in options.labels:
            few = few_labels(Path(temporary) / "train.tsv", labels)
            scores: dict[bool, list[float]] = {True: [], False: []}
            for with_pretraining, finetuned in finetunings(pretrained, few):
                scores[with_pretraining].append(finetuned.mean)
            tfidf = tfidf_logistic_regression(strings(read_labelled(few, Classify)), dev, dev[0]).accuracy(dev[1])
            cells = (f"{fmean(s):.1%} ({min(s):.1%} to {max(s):.1%})" for s in scores.values())
            print(f"{labels:6,}  {''.join(f'{cell:25}' for cell in cells)}{tfidf:.1%}", flush=True)


if __name__ == "__main__":
    main()
