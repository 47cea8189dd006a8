"""What a loss is compared with: the losses of those who know next to nothing."""

import math

import numpy as np

from bertsmith.data import Shards, read_manifest


def reference_losses(train: Shards) -> dict[str, float]:
    """Losses in nats a token on the held-out text beside the training text, or on that if none is held out.

    `uniform` is that of a blind guess, ln V. `unigram` is that of guessing by how frequent each token is in the training
    text (add-one smoothed), which an encoder learns in its first minutes.
    """
    counts = train.token_counts() + 1.0
    held_out = read_manifest(train.path)["splits"]["heldout"]["documents"]
    judged = train.beside("heldout").token_counts() if held_out else counts
    return {
        "uniform": math.log(len(train.vocabulary)),
        "unigram": float(-(judged * np.log(counts / counts.sum())).sum() / judged.sum()),
    }
