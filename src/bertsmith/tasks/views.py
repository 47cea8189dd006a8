"""Two views of one text, from which a model learns what texts are alike without any labels (plug point: views)."""

from dataclasses import dataclass

import numpy as np

from bertsmith.config import Part, require


class Views(Part):
    """How two token sequences are made of one. `dropout` is the least that training needs with them."""

    dropout: float = 0.0

    def __call__(self, ids: np.ndarray, starts: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Two stretches of `ids` (tokens,), without special tokens; `starts` are the places where its words begin."""
        raise NotImplementedError


@dataclass(frozen=True)
class SameText(Views, kind="same"):
    """The text itself, twice: only dropout tells the two apart (Gao et al. 2021, SimCSE, §3)."""

    dropout: float = 0.1

    def __call__(self, ids: np.ndarray, starts: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return ids, ids


@dataclass(frozen=True)
class Crops(Views, kind="crops"):
    """Two stretches of whole words, each drawn by itself (Izacard et al. 2022, Contriever, §3.2: independent cropping).

    A stretch has a share of the text's words that is uniform between `least` and `most`, and at least three words.
    """

    least: float = 0.1
    most: float = 0.5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        right = 0 < self.least <= self.most <= 1
        require(right, "least", f"expected 0 < least <= most <= 1, got {self.least} and {self.most}")

    def __call__(self, ids: np.ndarray, starts: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        bounds = np.append(starts, len(ids))

        def stretch() -> np.ndarray:
            words = min(len(starts), max(3, round(len(starts) * rng.uniform(self.least, self.most))))
            first = int(rng.integers(len(starts) - words + 1))
            return ids[bounds[first] : bounds[first + words]]

        return stretch(), stretch()
