"""What a loss is compared with: the losses of those who know next to nothing."""

import math
from pathlib import Path

import numpy as np

from bertsmith.data import Shards, read_manifest


def reference_losses(data: Path) -> dict[str, float]:
    """Losses in nats a token on the held-out text of a shard folder, or on the training text if none is held out.

    `uniform` is that of a blind guess, ln V. `unigram` is that of guessing by how frequent each token is in the training
    text (add-one smoothed), which an encoder learns in its first minutes.
    """
    train = Shards.load(data, thorough=False)
    counts = train.token_counts() + 1.0
    held_out = read_manifest(data)["splits"]["heldout"]["documents"]
    judged = Shards.load(data, "heldout", thorough=False).token_counts() if held_out else counts
    return {
        "uniform": math.log(len(train.vocabulary)),
        "unigram": float(-(judged * np.log(counts / counts.sum())).sum() / judged.sum()),
    }
