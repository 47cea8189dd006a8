"""What made the vectors of an index."""

from dataclasses import dataclass

_SHOWN = 12  # digits of a hash that people are shown


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """All that a text's vector depends on. Vectors of two fingerprints cannot be compared.

    `weights` and `tokenizer` are SHA-256 in hexadecimal, `pooling` says how token vectors become one, `normalize` whether
    the model's folder wants that at length 1, and `size` is how many numbers it has. `layers` are those whose states are
    pooled, and `long` is what is done with texts over the model's length.
    """

    weights: str
    tokenizer: str
    pooling: str
    normalize: bool
    size: int
    layers: str = "output"
    long: str = "cut"

    def __str__(self) -> str:
        """For people: `weights 41ac..., tokenizer 9b07..., pooling mean, layers output, long texts cut, normalized, 384
        numbers`."""
        return f"weights {self.weights[:_SHOWN]}, tokenizer {self.tokenizer[:_SHOWN]}, {self.how}"

    @property
    def how(self) -> str:
        """The part that options choose, for people."""
        length = "normalized" if self.normalize else "not normalized"
        return f"pooling {self.pooling}, layers {self.layers}, long texts {self.long}, {length}, {self.size} numbers"
