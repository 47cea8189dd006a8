from collections.abc import Callable, Mapping

import pytest
import torch
import transformers

from bertsmith import nn
from bertsmith.checkpoints import Checkpoint
from bertsmith.checkpoints.huggingface_names import TIED, canonical_names, parts_present, transforms
from bertsmith.checkpoints.transforms import Stack, fill, stored_shapes, to_stored

Config = Callable[..., nn.Model.Config]


@pytest.mark.parametrize(
    ("name", "heads", "pooler"),
    [
        ("BertModel", (), True),
        ("BertForMaskedLM", ("masked_lm",), False),
        ("BertForPreTraining", ("masked_lm", "next_sentence"), True),
        ("BertForNextSentencePrediction", ("next_sentence",), True),
        ("BertForSequenceClassification", ("sequence_label",), True),
        ("BertForTokenClassification", ("token_label",), False),
        ("BertForQuestionAnswering", ("answer_span",), False),
        ("BertForMultipleChoice", ("multiple_choice",), True),
    ],
)
def test_the_table_is_that_of_transformers(config: Config, name: str, heads: tuple[str, ...], pooler: bool) -> None:
    """All names and all shapes, and no other."""
    kinds = {
        "masked_lm": nn.MaskedLMHead.Config(),
        "next_sentence": nn.SequenceHead.Config(num_labels=2),
        "token_label": nn.TokenHead.Config(num_labels=5),
        "answer_span": nn.SpanHead.Config(),
        "multiple_choice": nn.SequenceHead.Config(num_labels=1),
    }
    ours = config(pooler=pooler, heads={h: kinds.get(h, nn.SequenceHead.Config(num_labels=5)) for h in heads})
    with torch.device("meta"):
        reference = getattr(transformers, name)(
            transformers.BertConfig(
                vocab_size=37,
                hidden_size=12,
                num_attention_heads=2,
                num_hidden_layers=2,
                intermediate_size=17,
                max_position_embeddings=19,
                type_vocab_size=3,
                num_labels=2 if "answer_span" in heads else 5,
            )
        )
        model = ours.build()
    prefix = "bert." if name == "BertModel" else ""
    expected = {prefix + key: tuple(value.shape) for key, value in reference.named_parameters()}
    assert stored_shapes(transforms(ours), model) == expected


def test_every_parameter_has_one_place_and_comes_back(checkpoint: Callable[..., Checkpoint], config: Config) -> None:
    model = checkpoint().model
    table = transforms(config())
    assert sorted(transform.ours for transform in table) == sorted(name for name, _ in model.named_parameters())
    stored: Mapping[str, torch.Tensor] = to_stored(table, model)
    assert len(stored) == sum(len(transform.theirs) for transform in table)
    other = config().initialized(seed=77)
    fill(other, table, stored.__getitem__)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_order_of_channels_does_not_matter(config: Config) -> None:
    channels = config().encoder.channels["tokens"]
    table = {t.ours: t.theirs for t in transforms(config(channels={"tokens": channels[::-1]}))}
    assert table["encoder.channels.tokens.2.table.weight"] == ("bert.embeddings.word_embeddings.weight",)
    assert table["encoder.channels.tokens.0.table.weight"] == ("bert.embeddings.token_type_embeddings.weight",)


def test_stack_is_reversible_and_shares_no_memory() -> None:
    stack = Stack("ours", ("a", "b", "c"))
    ours = torch.arange(12.0).reshape(6, 2)
    parts = stack.write(ours)
    assert [part.tolist() for part in parts] == [[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8, 9], [10, 11]]]
    assert torch.equal(stack.read(parts), ours)
    assert len({part.untyped_storage().data_ptr() for part in (*parts, ours)}) == 4


def test_old_names() -> None:
    assert canonical_names(
        [
            "embeddings.LayerNorm.gamma",
            "encoder.layer.0.output.LayerNorm.beta",
            "embeddings.position_ids",
            "pooler.dense.weight",
        ]
    ) == {
        "bert.embeddings.LayerNorm.weight": "embeddings.LayerNorm.gamma",
        "bert.encoder.layer.0.output.LayerNorm.bias": "encoder.layer.0.output.LayerNorm.beta",
        "bert.pooler.dense.weight": "pooler.dense.weight",
    }
    unchanged = ["bert.embeddings.word_embeddings.weight", "cls.predictions.bias", "classifier.weight", *TIED]
    assert canonical_names([*unchanged, "bert.embeddings.position_ids"]) == {name: name for name in unchanged}


@pytest.mark.parametrize(
    "names",
    [
        ("pooler.dense.weight", "bert.pooler.dense.weight"),
        ("bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight"),
    ],
)
def test_one_tensor_under_two_names_is_refused(names: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="are the same tensor under two names"):
        canonical_names(names)


def test_parts_present() -> None:
    assert parts_present(["bert.embeddings.LayerNorm.weight"]) == (False, set())
    assert parts_present(["bert.pooler.dense.bias", "cls.predictions.bias"]) == (True, {"masked_lm"})
    assert parts_present(["cls.seq_relationship.weight"]) == (False, {"next_sentence"})
