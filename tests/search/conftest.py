"""What the tests of the index share: made-up texts with made-up vectors of five numbers, and a description to go with them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lancedb", reason="the extra [search] is not installed")

from bertsmith.search import Description, Entry, Fingerprint, writing

SIZE = 5


@pytest.fixture(scope="session")
def description() -> Description:
    made = Fingerprint(weights="a1" * 32, tokenizer="b2" * 32, pooling="mean", normalize=True, size=SIZE)
    return Description(fingerprint=made, model="runs/mill")


def make_entry(number: int, text: str = "") -> Entry:
    fields = {"year": 1900 + number, "weight of it": number / 4, "kind": "odd'" if number % 2 else None}
    return Entry(f"t'{number:03}", text or f"The mill number{number} stood by rivers.", fields)


def make_vectors(*numbers: int) -> np.ndarray:
    return np.stack([np.random.default_rng(number).normal(size=SIZE) * (number + 1) for number in numbers])


@pytest.fixture(scope="session")
def entry() -> Callable[..., Entry]:
    """`entry(number)`, with another text if one is given."""
    return make_entry


@pytest.fixture(scope="session")
def vectors() -> Callable[..., np.ndarray]:
    """`vectors(*numbers)`: the same vector for the same number, each with a length of its own."""
    return make_vectors


@pytest.fixture
def mill(tmp_path: Path, description: Description) -> Path:
    """An index of 37 texts that were added in two batches."""
    path = tmp_path / "mill.index"
    with writing(path, description) as writer:
        writer.add([make_entry(n) for n in range(30)], make_vectors(*range(30)))
        writer.add([make_entry(n) for n in range(30, 37)], make_vectors(*range(30, 37)))
    return path


@pytest.fixture(scope="session")
def by_hand() -> Callable[[np.ndarray, int], list[str]]:
    """Ids of the `k` nearest of the 37, by the definition of the cosine."""

    def nearest(query: np.ndarray, k: int) -> list[str]:
        there = make_vectors(*range(37))
        cosines = there @ query / np.linalg.norm(there, axis=1) / np.linalg.norm(query)
        return [f"t'{n:03}" for n in np.argsort(-cosines, kind="stable")[:k]]

    return nearest
