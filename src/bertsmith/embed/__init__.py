"""Text in, vectors out. Start reading at `embedder.py`.

options.py        how texts become vectors
embedder.py       texts to vectors
token_vectors.py  the same of tokens and words
batches.py        texts of like length, packed
files.py          files of texts to files of vectors
"""

from bertsmith.embed.batches import batch_encodings, groups_by_length
from bertsmith.embed.embedder import Embedder, HiddenStates, Vectors
from bertsmith.embed.files import Written, embed_file
from bertsmith.embed.options import Cut, EmbedOptions, LongTexts, Text, Windows
from bertsmith.embed.token_vectors import TokenVectors

__all__ = [
    "Cut",
    "EmbedOptions",
    "Embedder",
    "HiddenStates",
    "LongTexts",
    "Text",
    "TokenVectors",
    "Vectors",
    "Windows",
    "Written",
    "batch_encodings",
    "embed_file",
    "groups_by_length",
]
