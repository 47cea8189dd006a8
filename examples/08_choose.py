"""Choose the ending that goes with a beginning, of any number of endings.

python examples/08_choose.py MODEL OUT
"""

import sys
from pathlib import Path

import bertsmith
from bertsmith.tasks import Finetuning

model, out = sys.argv[1:3]
data = Path(__file__).parent / "data"

run = Finetuning(
    task="choice", model=model, train=data / "endings-train.jsonl", dev=data / "endings-dev.jsonl", out=out
)
print("\n".join(run.finish().lines()))

endings = ("throws the ball.", "boils the ball.", "is a ball.")
(prediction,) = bertsmith.load(out).predict([("The football player goes to practice. He", *endings)])
print(endings[prediction.option], prediction.probabilities)
