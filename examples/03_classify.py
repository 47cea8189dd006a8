"""Fine-tune on labelled files, beside the same network without pretraining, and use the result.

    python examples/03_classify.py MODEL TRAIN DEV OUT

The files are csv, tsv, JSON lines or Parquet; which column is the text and which the label is guessed and said.
"""

import sys

import bertsmith
from bertsmith.checkpoints import load_model
from bertsmith.tasks import Finetuning, random_twin

model, train, dev, out = sys.argv[1:5]

run = Finetuning(task="classify", model=model, train=train, dev=dev, out=out)
print("\n".join(run.survey.lines()))
print("\n".join(run.finish().lines()))

twin = Finetuning(task="classify", model=random_twin(load_model(model), seed=0), train=train, dev=dev, seeds=(0,))
print("without pretraining:", *twin.finish().lines(), sep="\n")

for prediction in bertsmith.load(out).predict(["the director was born in 1950.", "what a wonderful film!"]):
    print(prediction.label, prediction.probabilities)
