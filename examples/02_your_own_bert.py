"""From a text file to a BERT of your own, in Python: vocabulary, shards, pretraining.

    python examples/02_your_own_bert.py TEXT OUT [path=value ...]

TEXT is plain text, a blank line between documents. Further arguments change the recipe, such as stages.0.steps=200.
"""

import sys
from dataclasses import replace
from pathlib import Path

import bertsmith
from bertsmith.config import override
from bertsmith.data import learn_tokenizer, prepare
from bertsmith.recipes import bert, demo
from bertsmith.train import Pretraining

text, out, changes = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]

# A wider encoder in the demo's training recipe: any part of a recipe can be replaced, and the rest stays as it was.
recipe = override(replace(demo.reviews(), name="mine", encoder=bert.encoder(192, 3, 3, dropout=0.0)), changes)

learned = learn_tokenizer(text, size=300)
print(f"{learned.statistics.fertility:.2f} tokens a word on held-out text")
prepare(text, learned.tokenizer, out / "shards", heldout=0.1)

for report in Pretraining(recipe=recipe, data=out / "shards", out=out / "run").run():
    if report.heldout:
        loss = report.heldout["masked_lm"].loss
        print(f"step {report.step} of {report.steps}: masked-LM loss {loss:.3f} on held-out text")

print(bertsmith.load(out / "run"))
