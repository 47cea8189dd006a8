"""Reference losses: what a loss is compared with."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bertsmith.data import Shards, prepare
from bertsmith.text import Tokenizer, Vocabulary
from bertsmith.train import reference_losses


def test_the_unigram_loss_is_that_of_the_smoothed_training_frequencies(tmp_path: Path) -> None:
    vocabulary = Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"))
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"{'a ' * (i % 5 + 1)}{'b ' * (i % 3)}c" for i in range(30)), encoding="utf-8")
    prepare(text, Tokenizer(vocabulary), tmp_path / "shards", heldout=0.3)
    train, heldout = (_counted(Shards.load(tmp_path / "shards", split)) for split in ("train", "heldout"))
    total = sum(train.values()) + 8
    surprise = sum(times * -math.log((train[token] + 1) / total) for token, times in heldout.items())
    found = reference_losses(Shards.load(tmp_path / "shards"))
    assert found["unigram"] == pytest.approx(surprise / sum(heldout.values()), rel=1e-12)
    assert found["uniform"] == pytest.approx(math.log(8))


def _counted(shards: Shards) -> Counter[int]:
    """How often each token occurs, counted one by one."""
    bounds = np.asarray(shards.sentence_bounds)
    return Counter(shards.token_slice(0, int(bounds[-1])).tolist())
