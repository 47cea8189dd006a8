"""Tag the words of a text: names of people, places and works in short messages.

    python examples/06_tag.py MODEL OUT

The files have a word and its tag a line, and an empty line between sentences; CoNLL-U and JSON lines do as well.
"""

import sys
from pathlib import Path

import bertsmith
from bertsmith.tasks import Finetuning

model, out = sys.argv[1:3]
data = Path(__file__).parent / "data"

run = Finetuning(task="tag", model=model, train=data / "tags-train.conll", dev=data / "tags-dev.conll", out=out)
print("\n".join(run.survey.lines()))
print("\n".join(run.finish().lines()))

for prediction in bertsmith.load(out).predict(["Hope to see you in Chicago tomorrow, Whitney!"]):
    print([(word.text, word.tag, f"{word.probability:.2f}") for word in prediction.words])
    print([(entity.label, entity.text, entity.start, entity.end) for entity in prediction.entities])
