"""What do the heads look at, and which words does the encoder take for alike?

python examples/04_look_inside.py MODEL page.html
"""

import sys
from pathlib import Path

import bertsmith
from bertsmith.inspection import WordVectors, attention
from bertsmith.inspection.attention_page import attention_page

loaded = bertsmith.load(sys.argv[1])
model, tokenizer = loaded.checkpoint.model, loaded.tokenizer

weights = attention(model, tokenizer, "the old mill stood by the river.")
print(weights.weights.shape, weights.most_telling())
Path(sys.argv[2]).write_text(attention_page(weights, title="Attention"), encoding="utf-8")

sentences = ["the river was quiet.", "she read an old book.", "they paid him in bread and in coin."]
for neighbour in WordVectors.collect(model, tokenizer, sentences).nearest("river", "the river was still."):
    print(f"{neighbour.similarity:.2f}  {neighbour.word:10} {neighbour.sentence}")
