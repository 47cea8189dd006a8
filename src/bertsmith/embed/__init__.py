"""Text in, vectors out. Start reading at `embedder.py`.

options.py        how texts become vectors
embedder.py       texts to vectors
token_vectors.py  the same of tokens and words
lanes.py          exact or fast: the numbers they are computed in
batches.py        texts of like length, without padding
running.py        a model in a lane, with the batches that it reads
files.py          files of texts to files of vectors: reading.py, pieces.py, vector_files.py
records.py        vectors as JSON lines
"""

from bertsmith.embed.batches import batch_encodings, groups_by_length, in_one_row
from bertsmith.embed.embedder import Embedder, HiddenStates, Vectors, finished
from bertsmith.embed.files import Written, embed_file
from bertsmith.embed.lanes import BFloat16, Float32, Int8, Lane
from bertsmith.embed.options import Cut, EmbedOptions, LongTexts, Text, Windows
from bertsmith.embed.reading import GivenText, TextFile, read_text_file
from bertsmith.embed.records import vector_records
from bertsmith.embed.running import Running
from bertsmith.embed.token_vectors import TokenVectors

__all__ = [
    "BFloat16",
    "Cut",
    "EmbedOptions",
    "Embedder",
    "Float32",
    "GivenText",
    "HiddenStates",
    "Int8",
    "Lane",
    "LongTexts",
    "Running",
    "Text",
    "TextFile",
    "TokenVectors",
    "Vectors",
    "Windows",
    "Written",
    "batch_encodings",
    "embed_file",
    "finished",
    "groups_by_length",
    "in_one_row",
    "read_text_file",
    "vector_records",
]
