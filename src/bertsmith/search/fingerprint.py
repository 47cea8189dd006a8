"""What made the vectors of an index."""

from dataclasses import dataclass

_SHOWN = 12  # digits of a hash that people are shown


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """All that a text's vector depends on. Vectors of two fingerprints cannot be compared.

    `weights` and `tokenizer` are SHA-256 in hexadecimal, `pooling` says how token vectors become one, `normalize` whether
    that is brought to length 1, and `size` is how many numbers it has.
    """

    weights: str
    tokenizer: str
    pooling: str
    normalize: bool
    size: int

    def __str__(self) -> str:
        """For people: `weights 41ac..., tokenizer 9b07..., pooling mean, normalized, 384 numbers`."""
        length = "normalized" if self.normalize else "not normalized"
        return (
            f"weights {self.weights[:_SHOWN]}, tokenizer {self.tokenizer[:_SHOWN]}, pooling {self.pooling}, {length}, "
            f"{self.size} numbers"
        )
