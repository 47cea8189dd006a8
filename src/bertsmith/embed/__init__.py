"""Text in, vectors out."""

from bertsmith.embed.embedder import Embedder, HiddenStates, Vectors, batch_encodings

__all__ = ["Embedder", "HiddenStates", "Vectors", "batch_encodings"]
