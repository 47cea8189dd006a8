"""Find the answer to a question in a text of any length.

    python examples/07_answers.py MODEL OUT

The files have the form of SQuAD 1.1 or 2.0, or a question, a context and its answers on each line of JSON.
"""

import sys
from pathlib import Path

import bertsmith
from bertsmith.tasks import Finetuning

model, out = sys.argv[1:3]
data = Path(__file__).parent / "data"

run = Finetuning(
    task="span", model=model, train=data / "questions-train.json", dev=data / "questions-dev.json", out=out
)
print("\n".join(run.finish().lines()))

context = "The ferry crosses the bay at noon. " * 60 + "The last one leaves at nine in the evening."
(prediction,) = bertsmith.load(out).predict([("When does the last ferry leave?", context)])
print(f"read in {prediction.windows} windows:", prediction.answer)
print("or:", *(candidate.text for candidate in prediction.candidates[1:4]), sep=" | ")
