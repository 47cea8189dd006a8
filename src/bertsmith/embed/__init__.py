"""Text in, vectors out."""

from bertsmith.embed.embedder import Embedder, HiddenStates, Vectors, batch_encodings, groups_by_length
from bertsmith.embed.files import Written, embed_file

__all__ = ["Embedder", "HiddenStates", "Vectors", "Written", "batch_encodings", "embed_file", "groups_by_length"]
