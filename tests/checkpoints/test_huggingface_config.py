import json
from collections.abc import Callable
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from bertsmith import nn
from bertsmith.checkpoints.huggingface_config import ARCHITECTURES, BertConfig, read_config
from bertsmith.checkpoints.huggingface_form import architecture, obstacle, write_config
from bertsmith.config import override, to_dict
from bertsmith.errors import ConfigError

GOOGLE_MULTILINGUAL = {
    "attention_probs_dropout_prob": 0.1,
    "directionality": "bidi",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
    "type_vocab_size": 2,
    "vocab_size": 119547,
}


def test_defaults_are_those_of_transformers() -> None:
    ours, theirs = to_dict(BertConfig()), transformers.BertConfig().to_dict()
    shared = set(ours) & set(theirs) - {"architectures", "id2label"}
    assert {"vocab_size", "layer_norm_eps", "pad_token_id", "classifier_dropout"} <= shared
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}


def test_everything_that_transformers_saves_is_understood() -> None:
    theirs = transformers.BertConfig(hidden_size=48, num_attention_heads=3, vocab_size=41, num_labels=5)
    assert read_config(json.loads(theirs.to_json_string(use_diff=False))).hidden_size == 48
    read = read_config(theirs.to_diff_dict() | {"id2label": {str(i): n for i, n in theirs.id2label.items()}})
    assert (read.vocab_size, read.num_attention_heads, len(read.labels)) == (41, 3, 5)


def test_google_files_are_understood() -> None:
    config = read_config(GOOGLE_MULTILINGUAL)
    assert config.vocab_size == 119547
    assert config.heads() == set()
    assert config.architecture is None


def test_segments_default_depends_on_whose_file_it_is() -> None:
    google = {key: value for key, value in GOOGLE_MULTILINGUAL.items() if key != "type_vocab_size"}
    assert read_config(google).type_vocab_size == 16
    assert read_config(google | {"model_type": "bert"}).type_vocab_size == 2
    assert read_config(google | {"architectures": ["BertModel"]}).type_vocab_size == 2


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hidden_sise", 768, "hidden_sise: no BERT configuration has this key. Did you mean 'hidden_size'?"),
        ("rope_theta", 1e4, "rope_theta: no BERT configuration has this key. It may change what the model computes."),
        ("hidden_size", 770, "hidden_size: 770 is not a multiple of 12 heads"),
        ("hidden_size", "768", "hidden_size: expected a value of type int, got '768'"),
        ("hidden_size", True, "hidden_size: expected a value of type int, got True"),
        ("hidden_size", 768.0, "hidden_size: expected a value of type int, got 768.0"),
        ("num_hidden_layers", 0, "num_hidden_layers: expected 1 to 1,000, got 0"),
        ("num_hidden_layers", 10**9, "num_hidden_layers: expected 1 to 1,000"),
        ("vocab_size", -1, "vocab_size: expected 1 to 10,000,000, got -1"),
        ("layer_norm_eps", 0, "layer_norm_eps: expected more than 0"),
        ("layer_norm_eps", float("nan"), "layer_norm_eps: expected a finite number, got nan"),
        ("hidden_dropout_prob", 1.5, "hidden_dropout_prob: expected 0 to less than 1, got 1.5"),
        ("hidden_act", "gelu_nwe", "hidden_act: 'gelu_nwe' is not known. Did you mean 'gelu_new'?"),
        ("hidden_act", "swish", "hidden_act: 'swish' is not known."),
        ("is_decoder", 0, "is_decoder: expected a value of type bool, got 0"),
        ("add_cross_attention", True, "add_cross_attention: True is not supported"),
        ("is_encoder_decoder", True, "is_encoder_decoder: True is not supported"),
        ("position_embedding_type", "relative_key", "position_embedding_type: 'relative_key' is not supported"),
        ("pruned_heads", {"0": [1]}, "pruned_heads: {'0': [1]} is not supported"),
        ("quantization_config", {"bits": 4}, "quantization_config: {'bits': 4} is not supported"),
        ("model_type", "roberta", "model_type: 'roberta' is not supported; expected 'bert'"),
        ("auto_map", {"AutoModel": "evil.Model"}, "auto_map: this model brings its own code"),
        ("trust_remote_code", True, "trust_remote_code: this model brings its own code"),
        ("architectures", ["BertForMaskedLm"], "Did you mean 'BertForMaskedLM'?"),
        ("architectures", ["BertGenerationEncoder"], "architectures: 'BertGenerationEncoder' is not supported"),
        ("architectures", "BertModel", "architectures: expected a list"),
        ("problem_type", "clustering", "problem_type: 'clustering' is not allowed"),
    ],
)
def test_nonsense_is_refused_by_name(key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_config({"model_type": "bert", key: value})
    assert message in str(error.value)


@pytest.mark.parametrize(
    "harmless",
    [{"pruned_heads": {}}, {"auto_map": None}, {"is_decoder": False}, {"position_embedding_type": "absolute"}],
)
def test_keys_that_ask_for_nothing_are_allowed(harmless: dict[str, Any]) -> None:
    assert read_config({"model_type": "bert"} | harmless) == BertConfig()


@pytest.mark.parametrize(
    ("settings", "labels", "head"),
    [
        ({}, ("LABEL_0", "LABEL_1"), "sequence_label"),
        ({"num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2"), "sequence_label"),
        ({"id2label": {"1": "yes", "0": "no"}}, ("no", "yes"), "sequence_label"),
        ({"id2label": {"0": "score"}}, ("score",), "sequence_score"),
        ({"id2label": {"0": "a"}, "problem_type": "single_label_classification"}, ("a",), "sequence_label"),
        ({"problem_type": "multi_label_classification"}, ("LABEL_0", "LABEL_1"), "multi_label"),
    ],
)
def test_sequence_heads(settings: dict[str, Any], labels: tuple[str, ...], head: str) -> None:
    config = read_config({"architectures": ["BertForSequenceClassification"], **settings})
    assert config.labels == labels
    assert config.heads() == {head}
    built = config.model_config(pooler=True, heads=config.heads()).heads[head]
    assert built == nn.SequenceHead.Config(num_labels=len(labels), dropout=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"id2label": {"0": "a", "2": "b"}}, "id2label: expected the keys 0 to n - 1"),
        ({"id2label": {}}, "id2label: expected the keys"),
        ({"num_labels": 0}, "num_labels: expected 1 to"),
        ({"num_labels": 3, "problem_type": "regression"}, "regression with 3 scores is not supported"),
    ],
)
def test_labels_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config({"architectures": ["BertForSequenceClassification"], **settings}).heads()


@given(
    st.dictionaries(
        st.sampled_from([*to_dict(BertConfig()), "model_type", "auto_map", "pruned_heads", "is_decoder", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=4,
        ),
        max_size=5,
    )
)
def test_any_json_is_a_configuration_or_a_config_error(data: dict[str, Any]) -> None:
    try:
        config = read_config(data)
        config.heads()
    except ConfigError as error:
        assert str(error)


Config = Callable[..., nn.Model.Config]


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
@pytest.mark.parametrize(
    ("name", "heads", "pooler"),
    [
        ("BertModel", {}, True),
        ("BertModel", {}, False),
        ("BertForMaskedLM", {"masked_lm"}, False),
        ("BertForMaskedLM", {"masked_lm"}, True),
        ("BertForPreTraining", {"masked_lm", "next_sentence"}, True),
        ("BertForNextSentencePrediction", {"next_sentence"}, True),
        ("BertForSequenceClassification", {"sequence_label"}, True),
        ("BertForSequenceClassification", {"masked_lm", "next_sentence", "multi_label"}, True),
    ],
)
def test_round_trip(name: str, heads: set[str], pooler: bool, activation: Any) -> None:
    """Read, write, read: nothing of the model is lost, dropout rates included."""
    theirs = {"gelu_tanh": "gelu_new"}.get(activation, activation)
    start = {
        "architectures": [name], "model_type": "bert", "hidden_act": theirs, "hidden_size": 12, "num_attention_heads": 2,
        "num_hidden_layers": 3, "intermediate_size": 17, "vocab_size": 37, "max_position_embeddings": 19,
        "type_vocab_size": 3, "hidden_dropout_prob": 0.25, "attention_probs_dropout_prob": 0.125,
        "layer_norm_eps": 1e-7, "initializer_range": 0.3,
        "id2label": {"0": "zero", "1": "one", "2": "two"},
    }  # fmt: skip
    config = read_config(start).model_config(pooler=pooler, heads=heads)
    assert obstacle(config) is None
    assert architecture(config) == name
    labels = ("zero", "one", "two") if name.endswith("Classification") else None
    written = json.loads(json.dumps(write_config(config, labels=labels, pad_token_id=0)))
    assert read_config(written).model_config(pooler=pooler, heads=heads) == config
    kept = {key: value for key, value in start.items() if key != "id2label" or labels}
    assert written | kept == written
    reference = transformers.BertConfig(**written)
    assert reference.num_hidden_layers == 3
    assert reference.num_labels == (3 if labels else 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"masks": {"tokens": nn.Causal()}}, "full attention mask"),
        ({"channels": {"tokens": (nn.Lookup.Config(field="input_ids"),)}}, "token, position and segment"),
        ({"layer_norm_eps": 1e-5}, "differ in layer_norm_eps"),
        (
            {"heads": {"masked_lm": nn.MaskedLMHead.Config(activation="relu")}},
            "its head 'masked_lm' has no counterpart",
        ),
        ({"heads": {"sequence_label": nn.SequenceHead.Config(num_labels=2)}, "pooler": False}, "'sequence_label'"),
        ({"heads": {"topic": nn.SequenceHead.Config(num_labels=2)}}, "its head 'topic' has no counterpart"),
        ({"heads": {"next_sentence": nn.SequenceHead.Config(num_labels=3)}}, "'next_sentence'"),
        (
            {"heads": {name: nn.SequenceHead.Config(num_labels=2) for name in ("sequence_label", "multi_label")}},
            "several heads of fine-tuning",
        ),
    ],
)
def test_what_has_no_form_in_hugging_face(config: Config, changes: dict[str, Any], reason: str) -> None:
    assert obstacle(config()) is None
    assert reason in (obstacle(config(**changes)) or "")


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ('block.residual={"kind": "pre_norm"}', "normalization after each residual"),
        ('block.feed_forward={"kind": "gated", "intermediate_size": 17}', "plain feed-forward layer"),
        ("block.feed_forward.bias=false", "needs biases"),
        ("block.attention.bias=false", "needs biases"),
        ('block.attention.query_key=[{"kind": "rotary"}]', "changes queries and keys"),
        ('block.attention.gate={"kind": "head"}', "has a gate"),
    ],
)
def test_newer_blocks_have_no_form_in_hugging_face(config: Config, assignment: str, reason: str) -> None:
    (group,) = config().encoder.layers
    group = override(group, [assignment])
    assert reason in (obstacle(config(layers=(group,))) or "")
    assert "needs biases" in (obstacle(config(layer_norm_bias=False)) or "")


def test_layers_must_be_alike_but_for_dropout(config: Config) -> None:
    encoder = config().encoder
    (group,) = encoder.layers
    other = override(group, ["block.attention.dropout=0.5", "block.residual.dropout=0.4"])
    assert obstacle(config(layers=(group, other))) is None
    for change in ("block.attention.num_attention_heads=3", "block.feed_forward.intermediate_size=18"):
        assert obstacle(config(layers=(group, override(group, [change])))) == "its layers are not all alike"


def test_every_class_exists_in_transformers() -> None:
    assert set(ARCHITECTURES) <= set(dir(transformers))
