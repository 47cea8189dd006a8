"""What masking and pairing really did, counted on every batch: a policy is only as good as its realised rates."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class MaskStatistics:
    """Counts over some batches; `+` adds them up.

    `tokens` counts all real tokens with the special ones, the base of the 15 % in the original. `masked`, `random` and
    `kept` split `chosen` by what stands in the input. `random_next` counts the pairs whose second half is random.
    """

    sequences: int = 0
    tokens: int = 0
    chosen: int = 0
    masked: int = 0
    random: int = 0
    kept: int = 0
    pairs: int = 0
    random_next: int = 0

    def __add__(self, other: "MaskStatistics") -> "MaskStatistics":
        return MaskStatistics(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def rates(self) -> dict[str, float]:
        """Shares between 0 and 1: `chosen` of tokens; `masked`, `random`, `kept` of chosen; `random_next` of pairs."""
        return {
            "chosen": self.chosen / max(1, self.tokens),
            "masked": self.masked / max(1, self.chosen),
            "random": self.random / max(1, self.chosen),
            "kept": self.kept / max(1, self.chosen),
            "random_next": self.random_next / max(1, self.pairs),
        }
