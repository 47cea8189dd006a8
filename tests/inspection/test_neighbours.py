"""Words in context: which words, which vectors, which order."""

import numpy as np
import pytest
import torch

from bertsmith.data import Example, pad
from bertsmith.errors import DataError, UsageError
from bertsmith.inspection import WordVectors
from bertsmith.nn import Model
from bertsmith.text import Tokenizer

SENTENCES = ["the river bank .", "a bank in the river", "Money by the bank", "the zoo in a river , by the bank"]


@pytest.fixture(scope="module")
def vectors(model: Model, tokenizer: Tokenizer) -> WordVectors:
    return WordVectors.collect(model, tokenizer, SENTENCES)


def states(model: Model, tokenizer: Tokenizer, sentence: str, layer: int) -> np.ndarray:
    """Hidden states of a sentence alone in its batch, (tokens, hidden)."""
    ids = tokenizer.encode(sentence, special_tokens=True).ids
    batch = pad([Example({"input_ids": np.array(ids), "token_type_ids": np.zeros(len(ids), np.int64)})], pad_id=0)
    model.eval()
    with torch.no_grad():
        return list(model.encoder.layers(batch, model.encoder.apply_masks(batch)))[layer]["tokens"][0].numpy()


def test_words_are_those_of_the_text_without_marks(vectors: WordVectors) -> None:
    assert [vectors.word(index) for index in range(7)] == ["the", "river", "bank", "a", "bank", "in", "the"]
    assert vectors.word(8) == "Money"
    assert len(vectors) == 3 + 5 + 4 + 8
    assert vectors.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors.vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("layer", [0, 2, -1])
def test_a_vector_is_the_mean_of_its_tokens_less_the_mean_of_words(
    model: Model, tokenizer: Tokenizer, layer: int
) -> None:
    found = WordVectors.collect(model, tokenizer, SENTENCES, layer=layer)
    hidden = states(model, tokenizer, SENTENCES[3], layer)
    zoo = hidden[2:5].mean(axis=0) - found.mean  # z ##o ##o, after [CLS] the
    index = next(i for i in range(len(found)) if found.word(i) == "zoo")
    np.testing.assert_allclose(found.vectors[index], zoo / np.linalg.norm(zoo), atol=1e-5)


def test_the_mean_is_that_of_all_words(model: Model, tokenizer: Tokenizer) -> None:
    found = WordVectors.collect(model, tokenizer, ["the river", "a bank"])
    every = np.concatenate([states(model, tokenizer, text, -1)[1:3] for text in ("the river", "a bank")])
    np.testing.assert_allclose(found.mean, every.mean(axis=0), atol=1e-6)


def test_neighbours_come_in_order_of_similarity(vectors: WordVectors) -> None:
    sentence = "money in the bank"
    found = vectors.nearest("bank", sentence, 6)
    similarities = [one.similarity for one in found]
    assert similarities == sorted(similarities, reverse=True)
    assert len({one.word.casefold() for one in found}) == 6
    assert "bank" not in {one.word for one in found}
    for one in found:
        start, end = one.position
        assert one.sentence[start:end] == one.word


def test_the_nearest_of_all_is_found_by_looking_at_all(
    vectors: WordVectors, model: Model, tokenizer: Tokenizer
) -> None:
    sentence = "the river in a bank"
    query = states(model, tokenizer, sentence, -1)[2] - vectors.mean
    cosines = vectors.vectors @ (query / np.linalg.norm(query))
    others = [i for i in range(len(vectors)) if vectors.word(i) != "river"]
    best = max(others, key=lambda index: cosines[index])
    (found,) = vectors.nearest("river", sentence, 1)
    assert (found.word, found.similarity) == (vectors.word(best), pytest.approx(cosines[best], abs=1e-5))


def test_a_sentence_is_no_neighbour_of_itself(vectors: WordVectors) -> None:
    assert SENTENCES[0] not in {one.sentence for one in vectors.nearest("river", SENTENCES[0], 20)}


def test_collecting_stops_at_max_words_and_reads_no_sentence_twice(model: Model, tokenizer: Tokenizer) -> None:
    reported: list[tuple[int, int | None]] = []
    found = WordVectors.collect(
        model,
        tokenizer,
        [SENTENCES[1], SENTENCES[1], *SENTENCES],
        max_words=7,
        progress=lambda phase, done, total: reported.append((done, total)),
    )
    assert [found.word(index) for index in range(7)] == ["a", "bank", "in", "the", "river", "the", "river"]
    assert len(found) == 7
    assert reported[-1] == (7, 7)


def test_what_cannot_be_asked_for(vectors: WordVectors, model: Model, tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match=r"'ban' is not a word of 'the bank'. Its words are: the, bank"):
        vectors.nearest("ban", "the bank")
    with pytest.raises(UsageError, match="at least one"):
        vectors.nearest("bank", "the bank", 0)
    with pytest.raises(UsageError, match="no layer 4: 0 is the embedding, 1 to 3"):
        WordVectors.collect(model, tokenizer, SENTENCES, layer=4)
    with pytest.raises(DataError, match="hold no words"):
        WordVectors.collect(model, tokenizer, ["...", " , "])
