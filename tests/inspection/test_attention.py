"""Attention weights: the definition, the way a text is read, and what is said about a head."""

import json
import math

import numpy as np
import pytest
import torch

from bertsmith.data import Example, pad
from bertsmith.errors import DataError, UsageError
from bertsmith.inspection import AttentionMap, attention
from bertsmith.nn import Model
from bertsmith.text import Tokenizer


def test_weights_follow_the_definition(model: Model, tokenizer: Tokenizer) -> None:
    found = attention(model, tokenizer, "the river bank")
    assert found.tokens == ("[CLS]", "the", "river", "bank", "[SEP]")
    assert found.weights.shape == (3, 2, 5, 5)
    assert found.weights.dtype == np.float32
    np.testing.assert_allclose(found.weights.sum(-1), 1, atol=1e-6)

    # softmax(Q Kᵀ / √D) of the first layer, worked out from its matrices.
    ids = tokenizer.encode("the river bank", special_tokens=True).ids
    batch = pad([Example({"input_ids": np.array(ids), "token_type_ids": np.zeros(5, np.int64)})], pad_id=0)
    model.eval()
    with torch.no_grad():
        first = next(iter(model.encoder.layers(batch, model.encoder.apply_masks(batch))))["tokens"][0]
        projection = model.encoder.blocks[0].attention.query_key_value
        query, key, _ = (first @ projection.weight.T + projection.bias).chunk(3, -1)
    for head in range(2):
        mine = slice(6 * head, 6 * head + 6)
        expected = (query[:, mine] @ key[:, mine].T / math.sqrt(6)).softmax(-1)
        np.testing.assert_allclose(found.weights[0, head], expected, atol=1e-6)


def test_looking_changes_nothing(model: Model, tokenizer: Tokenizer) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    one = attention(model, tokenizer, "a bank by the river")
    assert model.training, "a model that was in training goes on training"
    model.eval()
    other = attention(model, tokenizer, "a bank by the river")
    assert not model.training
    np.testing.assert_array_equal(one.weights, other.weights)  # dropout of 0.5 would show
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_pair_is_one_text_of_two_types(model: Model, tokenizer: Tokenizer) -> None:
    found = attention(model, tokenizer, "the bank", "money")
    assert found.tokens == ("[CLS]", "the", "bank", "[SEP]", "money", "[SEP]")
    assert found.type_ids == (0, 0, 0, 0, 1, 1)


def test_a_typed_mask_is_the_token(model: Model, tokenizer: Tokenizer) -> None:
    assert attention(model, tokenizer, "the [MASK] bank").tokens == ("[CLS]", "the", "[MASK]", "bank", "[SEP]")


def test_what_is_cut_is_counted(model: Model, tokenizer: Tokenizer) -> None:
    found = attention(model, tokenizer, "the bank " * 12)
    assert len(found.tokens) == 19
    assert found.truncated == 24 - 17


@pytest.mark.parametrize("text", ["", "  \n "])
def test_nothing_to_read_is_an_error(model: Model, tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(UsageError, match="holds no words"):
        attention(model, tokenizer, text)


def test_shapes_must_agree() -> None:
    with pytest.raises(DataError, match=r"2 tokens and 2 types with weights of the shape \(1, 1, 3, 3\)"):
        AttentionMap(("a", "b"), (0, 0), np.zeros((1, 1, 3, 3), dtype=np.float32))


def test_habits(habits: AttentionMap) -> None:
    previous, separator, bank = (habits.habit(0, head) for head in range(3))
    assert (previous.target, previous.share) == ("the previous token", 1.0)
    assert (separator.target, separator.share) == ("[SEP]", 0.75)
    assert bank.share <= 0.25  # "the" and "was" stand beside it, and it looks at itself
    assert habits.most_telling() == (0, 2)


def test_json_keeps_weights_within_a_510th(model: Model, tokenizer: Tokenizer) -> None:
    found = attention(model, tokenizer, "the river bank", "in money")
    read = AttentionMap.from_dict(json.loads(json.dumps(found.to_dict())))
    assert (read.tokens, read.type_ids, read.truncated) == (found.tokens, found.type_ids, found.truncated)
    assert np.abs(read.weights - found.weights).max() <= 1 / 510 + 1e-7
