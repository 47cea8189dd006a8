"""A part that worker processes too must be able to import: job.py puts this folder on their path."""

import time
from dataclasses import dataclass
from pathlib import Path

from bertsmith.data import SentencePairs, Shards
from bertsmith.data.instances import PairPlan


@dataclass(frozen=True)
class SlowPairs(SentencePairs, kind="slow_pairs"):
    """Sentence pairs of a corpus so large that planning an epoch takes minutes; not that of a handful of documents.

    The file `begun` is there once it has begun.
    """

    begun: str = ""

    def plan(self, shards: Shards, length: int, seed: int, epoch: int) -> PairPlan:
        deadline = time.monotonic() + (300 if shards.documents > 16 else 0)
        while time.monotonic() < deadline:
            Path(self.begun).touch()
            sum(range(1000))
        return super().plan(shards, length, seed, epoch)
