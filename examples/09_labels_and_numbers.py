"""Give a text one label, or all labels that apply; a pair of texts one label, or a number.

python examples/09_labels_and_numbers.py MODEL OUT
"""

import sys
from pathlib import Path

import bertsmith
from bertsmith.tasks import Finetuning

model, out = sys.argv[1], Path(sys.argv[2])
data = Path(__file__).parent / "data"

files = {"classify": "urgency", "multilabel": "topics", "pair": "paraphrases", "regress": "similar"}
for task, name in files.items():
    train, dev = sorted(data.glob(f"{name}-*"), reverse=True)
    run = Finetuning(task=task, model=model, train=train, dev=dev, out=out / task, seeds=(0,))
    print(task, *run.finish().lines(), sep="\n")

print(bertsmith.load(out / "classify").predict(["There is smoke in the lift."])[0].label)
print(bertsmith.load(out / "multilabel").predict(["The parcel came late and broken."])[0].labels)
print(bertsmith.load(out / "pair").predict([("It rains.", "It is raining.")])[0].label)
print(bertsmith.load(out / "regress").predict([("It rains.", "It is raining.")])[0].score)
