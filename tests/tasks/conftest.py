"""A tiny untrained model whose vocabulary is two dozen words, and data that it can learn."""

import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from bertsmith import nn
from bertsmith.checkpoints import Checkpoint
from bertsmith.text import SPECIAL_TOKENS, Tokenizer, Vocabulary

GOOD = ("sun", "joy", "gold", "song")
BAD = ("rain", "fear", "mud", "noise")
PLAIN = ("the", "a", "house", "tree", "road", "bird", "stone", "walks", "sees", "green")


@pytest.fixture
def checkpoint() -> Checkpoint:
    """2 layers of 24, 2 heads, up to 40 tokens, a pooler and no heads; lengths and sizes that cannot be confused."""
    tokens = (*SPECIAL_TOKENS, *GOOD, *BAD, *PLAIN, ".", "##s")
    block = nn.AttentionBlock.Config(
        attention=nn.Attention.Config(num_attention_heads=2),
        feed_forward=nn.FeedForward.Config(intermediate_size=41),
    )
    encoder = nn.Encoder.Config(
        hidden_size=24,
        vocab_size=len(tokens),
        channels={
            "tokens": (
                nn.Lookup.Config(field="input_ids"),
                nn.Position.Config(max_position_embeddings=40),
                nn.Lookup.Config(field="token_type_ids", size=2),
            )
        },
        layers=(nn.Layers(count=2, block=block),),
        masks={"tokens": nn.Full()},
        initializer_range=0.1,
    )
    model = nn.Model.Config(encoder=encoder).initialized(seed=7)
    return Checkpoint(model=model.eval(), tokenizer=Tokenizer(Vocabulary(tokens), max_length=40))


Sentences = Callable[[int, int], list[tuple[str, str]]]


@pytest.fixture
def sentences() -> Sentences:
    """Makes (text, label) from a count and a seed: `pos` texts have good words in them, `neg` texts bad ones."""

    def make(count: int, seed: int) -> list[tuple[str, str]]:
        random = np.random.default_rng(seed)
        made = []
        for _ in range(count):
            label = ("neg", "pos")[int(random.integers(2))]
            telling = random.choice(GOOD if label == "pos" else BAD, 2)
            words = [*random.choice(PLAIN, int(random.integers(3, 9))), *telling]
            random.shuffle(words)
            made.append((" ".join(words), label))
        return made

    return make


Write = Callable[[str, Iterable[Iterable[object]]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes rows into a tab-separated file, or the text of one row as it is into any other."""

    def make(name: str, rows: Iterable[Iterable[object]]) -> Path:
        path = tmp_path / name
        path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), encoding="utf-8", newline="\n")
        return path

    return make


@pytest.fixture(scope="session")
def data_pack() -> Callable[[str], Path]:
    """Finds a set of real data by its name."""

    def find(name: str) -> Path:
        root = Path(os.environ.get("BERTSMITH_DATA", Path(__file__).parents[3] / "shared" / "data"))
        if not (root / "get").exists():
            pytest.skip(f"no shared data at {root}: set BERTSMITH_DATA")
        return Path(subprocess.run([root / "get", name], capture_output=True, text=True, check=True).stdout.strip())

    return find
