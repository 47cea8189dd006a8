"""Vectors with the real weights of all-MiniLM-L6-v2, beside sentence-transformers and transformers: ≤ 1e-5."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling as TheirPooling

import bertsmith
from bertsmith import LoadedModel
from bertsmith.embed import EmbedOptions
from bertsmith.nn import (
    Averaged,
    ClsPooling,
    Concatenated,
    LastTokenPooling,
    LayerChoice,
    MaxPooling,
    MeanMaxPooling,
    MeanPooling,
    RootMeanPooling,
    TextMeanPooling,
    WeightedMeanPooling,
)


@pytest.fixture(scope="module")
def ours(minilm_path: Path) -> LoadedModel:
    return bertsmith.load(minilm_path)


@pytest.fixture(scope="module")
def theirs(minilm_path: Path) -> Any:
    return SentenceTransformer(str(minilm_path), device="cpu")


@pytest.fixture(scope="module")
def hidden_states(minilm_path: Path, texts: tuple[str, ...]) -> list[Any]:
    """Of each text and of one pair, alone in its batch: (layers + 1, tokens, hidden)."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm_path)
    model = transformers.AutoModel.from_pretrained(minilm_path, attn_implementation="eager").eval()

    def run() -> Iterator[np.ndarray]:
        for given in (*((text,) for text in texts), texts[:2]):
            with torch.inference_mode():
                output = model(**tokenizer(*given, return_tensors="pt"), output_hidden_states=True)
            yield torch.cat(output.hidden_states).numpy()

    return list(run())


def test_the_vectors_of_the_folder(ours: LoadedModel, theirs: Any, texts: tuple[str, ...]) -> None:
    long = "The miller opened the green door. " * 90
    np.testing.assert_allclose(ours.embed([*texts, long]), theirs.encode([*texts, long]), atol=1e-5)
    np.testing.assert_allclose(  # a pair is one sequence for both
        ours.embed([(texts[0], texts[1])]), theirs.encode([list(texts[:2])]), atol=1e-5
    )


@pytest.mark.parametrize(
    "pooling",
    [MeanPooling(), ClsPooling(), MaxPooling(), RootMeanPooling(), WeightedMeanPooling(), LastTokenPooling()],
    ids=lambda pooling: pooling.kind,
)
def test_every_pooling_that_both_know(ours: LoadedModel, theirs: Any, texts: tuple[str, ...], pooling: Any) -> None:
    reference = SentenceTransformer(modules=[theirs[0], TheirPooling(384, pooling_mode=pooling.kind)], device="cpu")
    found = ours.embed(texts, EmbedOptions(pooling=pooling, normalize=False))
    np.testing.assert_allclose(found, reference.encode(list(texts)), atol=1e-5)
    short = ours.embed(texts, EmbedOptions(pooling=pooling, normalize=True, dimensions=64))
    expected = reference.encode(list(texts), truncate_dim=64, normalize_embeddings=True)
    np.testing.assert_allclose(short, expected, atol=1e-5)


def test_token_vectors(ours: LoadedModel, theirs: Any, texts: tuple[str, ...]) -> None:
    for found, expected in zip(
        ours.token_vectors(texts), theirs.encode(list(texts), output_value="token_embeddings"), strict=True
    ):
        np.testing.assert_allclose(found.vectors, expected.numpy()[1:-1], atol=1e-5)


@pytest.mark.parametrize(
    ("layers", "numbers"),
    [
        (Concatenated((0,)), [0]),
        (Concatenated((-2,)), [5]),
        (Concatenated((-1, 3)), [6, 3]),
        (Averaged((-4, -3, -2, -1)), [3, 4, 5, 6]),
    ],
)
def test_layers(
    ours: LoadedModel, hidden_states: list[Any], texts: tuple[str, ...], layers: LayerChoice, numbers: list[int]
) -> None:
    """Pooled and not, of texts and of a pair; TextMean's third special token, the [SEP] between the two, is left out."""

    def states(found: Any) -> Any:
        chosen = [found[number] for number in numbers]
        return np.mean(chosen, axis=0) if isinstance(layers, Averaged) else np.concatenate(chosen, axis=1)

    given = [*texts, (texts[0], texts[1])]
    expected = [states(found) for found in hidden_states]
    first = len(ours.tokenizer.encode(texts[0])) + 1
    inner = [[i for i in range(1, len(s) - 1) if n < 4 or i != first] for n, s in enumerate(expected)]
    ways = {
        TextMeanPooling(): [s[i].mean(0) for s, i in zip(expected, inner, strict=True)],
        MeanMaxPooling(): [np.concatenate([s.mean(0), s.max(0)]) for s in expected],
    }
    for pooling, vectors in ways.items():
        options = EmbedOptions(pooling=pooling, layers=layers, normalize=False)
        np.testing.assert_allclose(ours.embed(given, options), np.stack(vectors), atol=1e-5)
    found = ours.token_vectors(given, EmbedOptions(layers=layers))
    for one, s, i in zip(found, expected, inner, strict=True):
        np.testing.assert_allclose(one.vectors, s[i], atol=1e-5)
