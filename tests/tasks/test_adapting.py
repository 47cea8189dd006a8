"""Vectors that are trained on texts without labels."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bertsmith.checkpoints import Checkpoint, load_model
from bertsmith.data import Example, pack
from bertsmith.errors import DataError, UsageError
from bertsmith.nn import MeanPooling, Output
from bertsmith.objectives import Contrastive
from bertsmith.tasks import Adapting, Crops, SameText
from bertsmith.text import Tokenizer, Vocabulary

Write = Callable[..., Path]
WORDS = [f"w{number}" for number in range(24)]


@pytest.fixture
def model(checkpoint: Checkpoint) -> Checkpoint:
    """The usual one, with words of eight subjects."""
    tokens = (*checkpoint.tokenizer.vocabulary.tokens[:5], *WORDS, "##s")
    config = checkpoint.model.config
    config = replace(config, encoder=replace(config.encoder, vocab_size=len(tokens), embedding_dropout=0.0))
    return replace(
        checkpoint, model=config.initialized(3).eval(), tokenizer=Tokenizer(Vocabulary(tokens), max_length=40)
    )


def texts(count: int, seed: int) -> list[tuple[str]]:
    """Each about two subjects, of three words each: so halves have no word in common that chance did not bring."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        subjects = random.choice(8, 2, replace=False)
        made.append((" ".join(WORDS[int(random.choice(subjects)) * 3 + int(random.integers(3))] for _ in range(16)),))
    return made


@pytest.fixture
def job(model: Checkpoint, write: Write, tmp_path: Path) -> Adapting:
    path = write("texts.txt", texts(600, 1))
    return Adapting(model=model, texts=path, out=tmp_path / "adapted", epochs=6, batch_size=16, learning_rate=3e-3)


def test_halves_of_texts_find_each_other(job: Adapting) -> None:
    result = job.finish()
    assert result.heldout == 30
    assert result.after.halves > result.before.halves + 0.1
    loaded = load_model(job.out or "")
    assert not loaded.model.config.heads and loaded.task is None
    assert loaded.model.config.encoder.embedding_dropout == 0.0
    assert loaded.lineage["settings"]["views"]["kind"] == "crops"
    assert "before" in "\n".join(result.lines()) and "did not help" not in "\n".join(result.lines())


def test_the_text_itself_under_dropout(job: Adapting, write: Write) -> None:
    """Two views of one text are the same but for dropout, which a model without any is given for its training only."""
    pairs = write(
        "pairs.tsv",
        [("sentence1", "sentence2", "score"), ("w0 w1", "w1 w2", "5"), ("w0", "w9 w20", "0"), ("w3 w4", "w12", "1")],
    )
    same = replace(job, views=SameText(), epochs=1, pairs=pairs, out=None)
    first = next(same.run())
    assert first.update.measures["contrastive"].loss > 0.01
    result = same.finish()
    assert result.before.pairs is not None and result.after.pairs is not None
    assert -1 <= result.after.pairs <= 1


def test_the_same_seed_gives_the_same_weights(job: Adapting) -> None:
    one, two = (replace(job, out=None, epochs=1).finish().checkpoint.model.state_dict() for _ in range(2))
    other = replace(job, out=None, epochs=1, seed=1).finish().checkpoint.model.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_what_cannot_be_adapted(job: Adapting, write: Write, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="there exists"):
        next(replace(job, out=tmp_path / "there").run())
    few = write("few.txt", [*texts(19, 1), *texts(19, 1)])
    with pytest.raises(DataError, match="19 different texts, and at least 20 are needed"):
        next(replace(job, texts=few).run())
    short = write("short.txt", [(f"w{a} w{b}",) for a in range(6) for b in range(6)])
    with pytest.raises(DataError, match="8 words or more"):
        next(replace(job, texts=short).run())


def test_the_loss_is_the_papers_by_hand() -> None:
    """Three texts in two dimensions: cosines 1, 0 and -1 between views, at temperature 0.5."""
    angles = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 1.0], [-1.0, 0.0], [0.0, 5.0]])
    ids = {"input_ids": np.array([5]), "token_type_ids": np.array([0])}
    batch = pack([Example(ids)] * 6, length=1, pad_id=0)
    order = torch.argsort(batch.starts)
    hidden = torch.empty(6, 1, 2)
    hidden[order, 0] = angles[order]
    found = Contrastive(pooling=MeanPooling(), temperature=0.5).loss(None, Output({"tokens": hidden}, None), batch)  # pyright: ignore[reportArgumentType]
    scores = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [-1.0, 0.0, 0.0]]) / 0.5
    expected = -scores.log_softmax(1).diagonal().sum()
    assert found.count == 3
    assert found.total.item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_crops_are_stretches_of_whole_words(count: int) -> None:
    random = np.random.default_rng(count)
    lengths = random.integers(1, 4, count)
    starts = np.cumsum([0, *lengths[:-1]])
    ids = np.arange(100, 100 + int(lengths.sum()))
    ends = {*np.cumsum(lengths).tolist()}
    for _ in range(50):
        for view in Crops()(ids, starts, random):
            first, end = int(view[0]) - 100, int(view[-1]) - 99
            assert np.array_equal(view, ids[first:end])
            assert first in starts and end in ends
            words = int(((starts >= first) & (starts < end)).sum())
            assert min(3, count) <= words <= max(3, round(count / 2))
