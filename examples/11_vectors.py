"""Vectors the way you want them: pooling, layers, long texts, words, and a file of any size.

python examples/11_vectors.py MODEL TEXTS OUT.parquet
"""

import sys

import numpy as np

import bertsmith
from bertsmith.embed import Embedder, EmbedOptions, Windows, embed_file
from bertsmith.nn import Averaged, MeanPooling

folder, texts, out = sys.argv[1:]
model = bertsmith.load(folder)
print(model.embedder.about)

# A word has one vector where it stands: the two "play" below differ.
(words,) = model.word_vectors(["he plays the piano in the play, a play by Chekhov."], EmbedOptions(normalize=True))
places = [i for i, word in enumerate(words.pieces) if word == "play"]
first, second = words.vectors[places]
print("play and play:", [words.offsets[i].tolist() for i in places], f"cosine {first @ second:.3f}")

# The last two layers averaged, length 1, and long texts read to their end.
options = EmbedOptions(pooling=MeanPooling(), layers=Averaged((-2, -1)), normalize=True, long=Windows())
embedder = Embedder(model.checkpoint, options)
made = embedder.embed(["a short text.", "a long text, and so on. " * 300, ("a question?", "its answer.")])
print(made.vectors.shape, "windows:", made.windows.tolist(), "lengths:", np.linalg.norm(made.vectors, axis=1).round(4))

written = embed_file(embedder, texts, out)
print(f"{written.texts} texts to {out}, {written.windowed} read in windows, {written.empty} empty")
