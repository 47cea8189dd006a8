"""Vectors and hidden states: equal to the plain computation, and independent of the neighbours in a batch."""

import json

import numpy as np
import pytest
import torch

from bertsmith import LoadedModel
from bertsmith.cli import main

TEXTS = [
    "A cat sat on the mat.",
    "electrodynamics",
    "",
    "The quick brown fox jumps over the lazy dog, again and again and again.",
    "Zürich liegt an der Limmat.",
    "A cat sat on the mat.",
]


def test_a_vector_does_not_depend_on_its_neighbours(minilm: LoadedModel) -> None:
    together = minilm.embed(TEXTS)
    assert together.dtype == np.float32 and together.shape == (6, 384)
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(minilm.embed(text), vector, atol=2e-6)
    np.testing.assert_allclose(together[0], together[5], atol=2e-6)


def test_nor_on_any_neighbours(minilm: LoadedModel) -> None:
    """Rounding is all that differs: 1.2e-7 is the most seen in 40 draws. The same texts in the same order differ in no bit."""
    alone = minilm.embed(TEXTS[0])
    random = np.random.default_rng(4)
    words = " ".join(TEXTS).split()
    for _ in range(6):
        others = [" ".join(random.choice(words, random.integers(1, 60))) for _ in range(random.integers(1, 30))]
        place = int(random.integers(len(others) + 1))
        texts = [*others[:place], TEXTS[0], *others[place:]]
        np.testing.assert_allclose(minilm.embed(texts)[place], alone, atol=1e-6)
    assert minilm.embed(TEXTS).tobytes() == minilm.embed(TEXTS).tobytes()


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


@pytest.mark.parametrize("text", ["", " ", "\x00"])
def test_a_text_without_words_has_no_states(minilm: LoadedModel, text: str) -> None:
    found = minilm.hidden_states(text)
    assert (found.words, found.truncated) == ((), 0)
    assert found.states.shape == (7, 0, 384) and found.states.dtype == np.float32


def test_hidden_states_count_what_was_cut(minilm: LoadedModel) -> None:
    limit = minilm.embedder.max_length
    found = minilm.hidden_states("river " * (limit + 8))
    assert len(found.words) == limit - 2 and found.truncated == 10


def test_the_command_line_says_what_was_cut(minilm: LoadedModel, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["river " * (minilm.embedder.max_length + 8), "river"]
    with pytest.raises(SystemExit) as end:
        main(["embed", "--model", str(minilm.checkpoint.path), "--text", texts[0], "--text", texts[1]])
    assert not end.value.code
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["text"], line["truncated"]) for line in lines] == [(texts[0], 10), (texts[1], 0)]
    np.testing.assert_allclose([line["vector"] for line in lines], minilm.embed(texts), atol=2e-6)
