from collections.abc import Callable

import pytest

from bertsmith import nn
from bertsmith.checkpoints.google_names import fine_tuned_head, parts_present, transforms, without_training_state
from bertsmith.checkpoints.transforms import stored_shapes

Config = Callable[..., nn.Model.Config]

# google-research/bert, one layer of hidden 12: names and shapes as `run_pretraining.py` makes them.
LAYER = {
    "attention/self/query": (12, 12),
    "attention/self/key": (12, 12),
    "attention/self/value": (12, 12),
    "attention/output/dense": (12, 12),
    "intermediate/dense": (12, 17),
    "output/dense": (17, 12),
}


def dense(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}


def norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}/LayerNorm/gamma": (12,), f"{name}/LayerNorm/beta": (12,)}


def expected(layers: int) -> dict[str, tuple[int, ...]]:
    shapes = {
        "bert/embeddings/word_embeddings": (37, 12),
        "bert/embeddings/position_embeddings": (19, 12),
        "bert/embeddings/token_type_embeddings": (3, 12),
        **norm("bert/embeddings"),
        **dense("bert/pooler/dense", 12, 12),
    }
    for n in range(layers):
        for name, (inputs, outputs) in LAYER.items():
            shapes |= dense(f"bert/encoder/layer_{n}/{name}", inputs, outputs)
        shapes |= norm(f"bert/encoder/layer_{n}/attention/output") | norm(f"bert/encoder/layer_{n}/output")
    return shapes


PRETRAINING = {
    **dense("cls/predictions/transform/dense", 12, 12),
    **norm("cls/predictions/transform"),
    "cls/predictions/output_bias": (37,),
    "cls/seq_relationship/output_weights": (2, 12),
    "cls/seq_relationship/output_bias": (2,),
}


def shapes(config: nn.Model.Config) -> dict[str, tuple[int, ...]]:
    return stored_shapes(transforms(config), config.build())


def test_names_and_shapes_of_pretraining(config: Config) -> None:
    assert shapes(config()) == expected(2) | PRETRAINING


@pytest.mark.parametrize(
    ("heads", "prefix", "rows"),
    [
        ({"sequence_label": nn.SequenceHead.Config(num_labels=5)}, "", 5),
        ({"sequence_score": nn.SequenceHead.Config(num_labels=1)}, "", 1),
        ({"multi_label": nn.SequenceHead.Config(num_labels=3)}, "", 3),
        ({"token_label": nn.TokenHead.Config(num_labels=4)}, "", 4),
        ({"multiple_choice": nn.SequenceHead.Config(num_labels=1)}, "", 1),
        ({"answer_span": nn.SpanHead.Config()}, "cls/squad/", 2),
    ],
)
def test_fine_tuned_heads(config: Config, heads: dict[str, nn.Head.Config], prefix: str, rows: int) -> None:
    head = {f"{prefix}output_weights": (rows, 12), f"{prefix}output_bias": (rows,)}
    assert shapes(config(heads=heads)) == expected(2) | head


def test_rows_of_padding_are_in_the_file(config: Config) -> None:
    wanted = config()
    found = stored_shapes(transforms(wanted, 40), wanted.build())
    assert found == expected(2) | PRETRAINING | {
        "bert/embeddings/word_embeddings": (40, 12),
        "cls/predictions/output_bias": (40,),
    }


def test_what_training_leaves_is_told_from_weights() -> None:
    state = [
        "global_step",
        "beta1_power",
        "bert/pooler/dense/kernel/adam_m",
        "bert/pooler/dense/kernel/adam_v",
        "bert/pooler/dense/kernel/AdamWeightDecayOptimizer",
        "bert/pooler/dense/kernel/AdamWeightDecayOptimizer_1",
        "output_bias/Adam_1",
    ]
    weights = ["bert/pooler/dense/kernel", "output_bias", "adam_m_of_mine", "mine/global_step"]
    assert without_training_state([*state, *weights]) == (weights, state)


def test_parts_are_known_by_their_names() -> None:
    assert parts_present(["bert/pooler/dense/bias", "cls/predictions/output_bias"]) == (True, {"masked_lm"})
    assert parts_present(["bert/embeddings/word_embeddings", "output_weights"]) == (False, set())
    assert parts_present(PRETRAINING) == (False, {"masked_lm", "next_sentence"})
    assert fine_tuned_head(["x", "output_weights"]) == ("output_weights", "BertForSequenceClassification")
    assert fine_tuned_head(["cls/squad/output_weights"]) == ("cls/squad/output_weights", "BertForQuestionAnswering")
    assert fine_tuned_head(PRETRAINING) is None
