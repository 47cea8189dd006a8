"""Every choice does what it says, together with the others, and what does not fit is refused."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from bertsmith import LoadedModel, nn
from bertsmith.checkpoints import Checkpoint
from bertsmith.config import from_dict, to_dict
from bertsmith.embed import Cut, Embedder, EmbedOptions, Windows
from bertsmith.errors import ConfigError
from bertsmith.nn import Averaged, ClsPooling, Concatenated, MeanMaxPooling, MeanPooling, PoolerPooling

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def test_windows_are_averaged_by_what_they_show(small: LoadedModel) -> None:
    text = " ".join(LETTERS[:23])
    whole = small.embed([text, "a b", text[:27]], EmbedOptions(long=Windows(stride=14)))
    parts = small.embed([" ".join(LETTERS[:14]), " ".join(LETTERS[9:23])])
    np.testing.assert_allclose(whole[0], parts.mean(0), atol=1e-6)
    np.testing.assert_array_equal(whole[2], small.embed(text[:27]))  # 14 letters fit
    counted = Embedder(small.checkpoint, EmbedOptions(long=Windows(stride=5))).embed([text, "a b"])
    assert (counted.windows.tolist(), counted.truncated.tolist()) == ([3, 1], [0, 0])
    cut = Embedder(small.checkpoint).embed([text, "a b"])
    assert (cut.windows.tolist(), cut.truncated.tolist()) == ([1, 1], [9, 0])


def test_the_longer_text_of_a_pair_is_read_in_windows(small: LoadedModel) -> None:
    pair = ("a b c", " ".join(LETTERS[:20]))
    counted = Embedder(small.checkpoint, EmbedOptions(long=Windows(stride=10))).embed([pair])
    assert (counted.windows.tolist(), counted.truncated.tolist()) == ([2], [0])
    expected = small.embed([("a b c", " ".join(LETTERS[:10])), ("a b c", " ".join(LETTERS[10:20]))]).mean(0)
    np.testing.assert_allclose(counted.vectors[0], expected, atol=1e-6)
    assert np.abs(small.embed([("a", "b")]) - small.embed(["a b"])).max() > 1e-3


def test_windows_are_averaged_before_they_are_normalized(small: LoadedModel) -> None:
    text = " ".join(LETTERS[:23])
    plain = small.embed(text, EmbedOptions(long=Windows()))
    options = EmbedOptions(long=Windows(), normalize=True, dimensions=5)
    np.testing.assert_allclose(small.embed(text, options), plain[:5] / np.linalg.norm(plain[:5]), atol=1e-6)


def test_sizes_and_kinds(small: LoadedModel) -> None:
    for options, size in {
        EmbedOptions(): 12,
        EmbedOptions(pooling=MeanMaxPooling()): 24,
        EmbedOptions(layers=Concatenated((-2, -1, 0))): 36,
        EmbedOptions(layers=Concatenated((-2, -1)), pooling=MeanMaxPooling(), dimensions=30): 30,
        EmbedOptions(layers=Averaged((-2, -1))): 12,
        EmbedOptions(dimensions=7): 7,
    }.items():
        assert Embedder(small.checkpoint, options).size == size
        vectors = small.embed(["a", "b c d", ""], options)
        assert vectors.shape == (3, size) and vectors.dtype == np.float32
        assert small.embed([], options).shape == (0, size)


def test_the_pooler_and_the_mix(small: LoadedModel, made: Callable[..., Checkpoint]) -> None:
    model = small
    options = EmbedOptions(pooling=PoolerPooling())
    cls = torch.from_numpy(model.embed(["a b"], EmbedOptions(pooling=ClsPooling())))
    pooler = model.checkpoint.model.pooler
    assert pooler is not None
    expected = torch.tanh(pooler.dense(cls)).detach().numpy()
    np.testing.assert_allclose(model.embed(["a b"], options), expected, atol=1e-6)
    mixed = LoadedModel(made(mix=nn.ScalarMix.Config()))
    mean = EmbedOptions(layers=Averaged((0, 1, 2)))
    np.testing.assert_allclose(mixed.embed(["a b"]), mixed.embed(["a b"], mean), atol=1e-6)  # a new mix is the mean


def test_what_does_not_fit_is_refused(small: LoadedModel, made: Callable[..., Checkpoint]) -> None:
    for checkpoint, options, problem in (
        (small.checkpoint, EmbedOptions(layers=Concatenated((-2, 9))), "there is no layer 9"),
        (small.checkpoint, EmbedOptions(dimensions=13), "dimensions: 13 are asked for, and the vectors have 12"),
        (small.checkpoint, EmbedOptions(pooling=PoolerPooling(), layers=Concatenated((-2,))), "reads the last layer"),
        (made(pooler=False), EmbedOptions(pooling=PoolerPooling()), "the model has no pooler"),
    ):
        with pytest.raises(ConfigError, match=problem):
            Embedder(checkpoint, options)
    with pytest.raises(ConfigError, match="dimensions: expected at least 1"):
        EmbedOptions(dimensions=0)


def test_options_are_plain_json() -> None:
    options = EmbedOptions(pooling=MeanPooling(), layers=Concatenated((-2,)), long=Windows(stride=9), normalize=True)
    assert from_dict(EmbedOptions, to_dict(options)) == options
    assert from_dict(EmbedOptions, {}) == EmbedOptions() == EmbedOptions(long=Cut())


def test_who_chose_the_pooling_is_said(minilm: LoadedModel, small: LoadedModel) -> None:
    assert minilm.embedder.about == (
        "Pooling: mean (as modules.json of the model says); vectors of 384, normalized. Texts over 256 tokens are cut."
    )
    assert small.embedder.about.startswith("Pooling: mean (the usual one: the model names none); vectors of 12, not n")
    options = EmbedOptions(pooling=ClsPooling(), layers=Concatenated((-2,)), normalize=False, long=Windows())
    assert Embedder(minilm.checkpoint, options).about == (
        "Pooling: cls (as asked for), layers -2 concatenated; vectors of 384, not normalized. Texts over 256 tokens are "
        "read in windows."
    )
    assert minilm.embedder.about_tokens.startswith("No pooling, the last layer; vectors of 384, not normalized.")
    asked = EmbedOptions(layers=Concatenated((-2, 1)), normalize=True, dimensions=500)
    said = Embedder(minilm.checkpoint, asked).about_tokens
    assert said.startswith("No pooling, layers -2, 1 concatenated; vectors of 500, normalized.")


def test_vectors_of_tokens_and_words(small: LoadedModel) -> None:
    text = "ab, Cde f"
    (tokens,), (words,) = small.token_vectors([text]), small.word_vectors([text])
    assert tokens.pieces == ("a", "##b", "[UNK]", "c", "##d", "##e", "f")
    assert [text[a:b] for a, b in tokens.offsets] == ["a", "b", ",", "C", "d", "e", "f"]
    assert words.pieces == ("ab", ",", "Cde", "f") == tuple(text[a:b] for a, b in words.offsets)
    means = [tokens.vectors[a:b].mean(0) for a, b in ((0, 2), (2, 3), (3, 6), (6, 7))]
    np.testing.assert_allclose(words.vectors, means, atol=1e-6)
    np.testing.assert_allclose(words.vectors, small.hidden_states(text).states[-1], atol=1e-6)
    assert not tokens.parts.any() and (tokens.windows, tokens.truncated) == (1, 0)
    (unit,) = small.token_vectors([text], EmbedOptions(normalize=True, dimensions=5))
    cut = tokens.vectors[:, :5]
    np.testing.assert_allclose(unit.vectors, cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-6)


def test_words_of_a_pair_say_which_text_they_are_from(small: LoadedModel) -> None:
    first, second = "ab c", "c ab"
    (words,) = small.word_vectors([(first, second)])
    assert (words.pieces, words.parts.tolist()) == (("ab", "c", "c", "ab"), [0, 0, 1, 1])
    assert words.offsets.tolist() == [[0, 2], [3, 4], [0, 1], [2, 4]]


def test_each_token_of_a_long_text_has_the_vector_with_most_around_it(small: LoadedModel) -> None:
    text = " ".join(LETTERS[:23])
    options = EmbedOptions(long=Windows(stride=9))
    (found,) = small.token_vectors([text], options)
    assert found.pieces == tuple(LETTERS[:23]) and (found.windows, found.truncated) == (2, 0)
    first, second = small.token_vectors([" ".join(LETTERS[:14]), " ".join(LETTERS[9:23])])
    np.testing.assert_allclose(found.vectors, [*first.vectors[:12], *second.vectors[3:]], atol=1e-6)
    (pair,) = small.token_vectors([("z", text)], options)
    assert pair.pieces == ("z", *LETTERS[:23]) and pair.parts.tolist() == [0, *[1] * 23]
    (cut,) = small.token_vectors([text])
    assert cut.pieces == tuple(LETTERS[:14]) and cut.truncated == 9


@pytest.mark.parametrize("text", ["", " ", "\x00", ("", "")])
def test_a_text_without_tokens_has_no_token_vectors(small: LoadedModel, text: str) -> None:
    for (found,) in (small.token_vectors([text]), small.word_vectors([text])):
        assert found.pieces == () and found.vectors.shape == (0, 12) and found.offsets.shape == (0, 2)
