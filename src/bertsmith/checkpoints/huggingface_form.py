"""Whether a model of ours is a BERT to Hugging Face, and the `config.json` that says so."""

from typing import Any

from bertsmith import nn
from bertsmith.checkpoints.huggingface_config import (
    ACTIVATIONS,
    ANSWER_SPAN,
    ARCHITECTURES,
    MASKED_LM,
    MULTIPLE_CHOICE,
    NEXT_SENTENCE,
    POOLED_HEADS,
    SEQUENCE_CLASSIFICATION,
    SEQUENCE_HEADS,
    TASK_HEADS,
    TOKEN_LABEL,
)
from bertsmith.config import to_dict
from bertsmith.nn.feed_forward import Activation

_OF_TASKS = ("BertForTokenClassification", "BertForQuestionAnswering", "BertForMultipleChoice")


def obstacle(config: nn.Model.Config) -> str | None:
    """Why a model of this shape is no BERT to Hugging Face, or None if it is one.

    Dropout rates do not count: they may differ from place to place in ours, and do not change what a model computes.
    """
    if config.mix is not None:
        return "its heads read a mix of all layers"
    encoder = config.encoder
    if encoder.channels.keys() != {"tokens"} or encoder.masks != {"tokens": nn.Full()}:
        return "it needs the one stream `tokens` under a full attention mask"
    channels = sorted((channel.kind, getattr(channel, "field", "")) for channel in encoder.channels["tokens"])
    if channels != [("lookup", "input_ids"), ("lookup", "token_type_ids"), ("position", "")]:
        return "it needs the channels token, position and segment"
    blocks = [without_dropout(to_dict(group.block)) for group in encoder.layers]
    if any(block != blocks[0] for block in blocks):
        return "its layers are not all alike"
    block = encoder.layers[0].block
    if not isinstance(block, nn.AttentionBlock.Config):
        return f"its blocks are of the kind {block.kind!r}"
    if not isinstance(block.feed_forward, nn.FeedForward.Config) or not isinstance(block.residual, nn.PostNorm.Config):
        return "its blocks need a plain feed-forward layer and normalization after each residual"
    if block.residual.layer_norm_eps != encoder.layer_norm_eps:
        return "its normalizations differ in layer_norm_eps"
    if not (block.attention.bias and block.feed_forward.bias and encoder.layer_norm_bias):
        return "it needs biases in its layers and normalizations"
    if block.attention.query_key or block.attention.gate is not None:
        return "its attention changes queries and keys, or has a gate"
    return _head_obstacle(config, block.feed_forward.activation)


def _head_obstacle(config: nn.Model.Config, activation: Activation) -> str | None:
    task_heads = [name for name in config.heads if name in TASK_HEADS]
    if len(task_heads) > 1:
        return f"it has several heads of fine-tuning: {', '.join(task_heads)}"
    counts = {NEXT_SENTENCE: 2, MULTIPLE_CHOICE: 1}
    for name, head in config.heads.items():
        if name == MASKED_LM:
            fits = isinstance(head, nn.MaskedLMHead.Config) and head.activation == activation
        elif name in POOLED_HEADS:
            sized = isinstance(head, nn.SequenceHead.Config) and head.num_labels == counts.get(name, head.num_labels)
            fits = sized and config.pooler
        else:
            kinds = {TOKEN_LABEL: nn.TokenHead.Config, ANSWER_SPAN: nn.SpanHead.Config}
            fits = name in kinds and isinstance(head, kinds[name])
        if not fits or getattr(head, "transform", None) is not None:
            return f"its head {name!r} has no counterpart"
    return None


def write_config(config: nn.Model.Config, *, labels: tuple[str, ...] | None, pad_token_id: int) -> dict[str, Any]:
    """The content of `config.json` for a model without an `obstacle`.

    `labels` name the scores of its head; without them they are called LABEL_0, LABEL_1 ... as in transformers.
    """
    encoder = config.encoder
    block = encoder.layers[0].block
    assert isinstance(block, nn.AttentionBlock.Config)
    assert isinstance(block.feed_forward, nn.FeedForward.Config)
    assert isinstance(block.residual, nn.PostNorm.Config)
    lookups = {c.field: c for c in encoder.channels["tokens"] if isinstance(c, nn.Lookup.Config)}
    (position,) = (c for c in encoder.channels["tokens"] if isinstance(c, nn.Position.Config))
    activations = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}  # gelu_new: older readers know it
    sizes = {
        "vocab_size": lookups["input_ids"].size or encoder.known_vocab_size,
        "hidden_size": encoder.hidden_size,
        "num_hidden_layers": encoder.num_hidden_layers,
        "num_attention_heads": block.attention.num_attention_heads,
        "intermediate_size": block.feed_forward.intermediate_size,
        "hidden_act": activations[block.feed_forward.activation],
        "hidden_dropout_prob": block.residual.dropout,
        "attention_probs_dropout_prob": block.attention.dropout,
        "max_position_embeddings": position.max_position_embeddings,
        "type_vocab_size": lookups["token_type_ids"].size or encoder.known_vocab_size,
        "initializer_range": encoder.initializer_range,
        "layer_norm_eps": encoder.layer_norm_eps,
        "pad_token_id": pad_token_id,
    }
    return (
        {"architectures": [architecture(config)], "model_type": "bert"}
        | sizes
        | head_keys(config, labels)
        | {
            "classifier_dropout": None,
            "use_cache": True,
            "tie_word_embeddings": True,
            "dtype": "float32",
        }
    )


def architecture(config: nn.Model.Config) -> str:
    """The class of transformers for this model's heads; one for a fine-tuned head before those of pretraining."""
    if any(name in SEQUENCE_HEADS.values() for name in config.heads):
        return SEQUENCE_CLASSIFICATION
    return next(
        name
        for name in (*_OF_TASKS, "BertForPreTraining", "BertForMaskedLM", "BertForNextSentencePrediction", "BertModel")
        if config.heads.keys() >= set(ARCHITECTURES[name])
    )


def head_keys(config: nn.Model.Config, labels: tuple[str, ...] | None) -> dict[str, Any]:
    """What `config.json` says of a head with labels: their names, and the kind of problem."""
    problems: dict[str, str | None] = {name: problem for problem, name in SEQUENCE_HEADS.items()} | {TOKEN_LABEL: None}
    for name, problem in problems.items():
        head = config.heads.get(name)
        if isinstance(head, nn.SequenceHead.Config | nn.TokenHead.Config):
            names = labels or tuple(f"LABEL_{i}" for i in range(head.num_labels))
            return ({"problem_type": problem} if problem else {}) | {
                "id2label": {str(i): label for i, label in enumerate(names)},
                "label2id": {label: i for i, label in enumerate(names)},
            }
    return {}


def without_dropout(value: Any) -> Any:
    """A part as JSON values, without the rates of dropout in it."""
    if isinstance(value, dict):
        return {key: without_dropout(item) for key, item in value.items() if key != "dropout"}
    return value
