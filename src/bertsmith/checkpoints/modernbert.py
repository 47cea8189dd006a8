"""Our pre-norm encoders as transformers knows them: ModernBERT (Warner et al. 2024), with full attention in every layer.

Checked against transformers 5.23.0 `modeling_modernbert.py` and `configuration_modernbert.py`. The sliding windows that
ModernBERT has in two of three layers we have not; a configuration that asks for them is refused.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bertsmith import nn
from bertsmith.checkpoints.huggingface_config import ACTIVATIONS, MASKED_LM
from bertsmith.checkpoints.huggingface_form import without_dropout
from bertsmith.checkpoints.transforms import Rename, Transform
from bertsmith.config import from_dict, to_dict
from bertsmith.text import Vocabulary

MODEL_TYPE = "modernbert"
ARCHITECTURES: dict[str, tuple[str, ...]] = {"ModernBertForMaskedLM": (MASKED_LM,), "ModernBertModel": ()}
TOKEN_TABLE = "model.embeddings.tok_embeddings.weight"
TIED = {"decoder.weight": TOKEN_TABLE}
FULL = "full_attention"

_BLOCK = {
    "attention_residual.norm": "attn_norm",
    "attention.query_key_value": "attn.Wqkv",
    "attention.output": "attn.Wo",
    "feed_forward_residual.norm": "mlp_norm",
    "feed_forward.up": "mlp.Wi",
    "feed_forward.down": "mlp.Wo",
}


def obstacle(config: nn.Model.Config) -> str | None:
    """Why a model of this shape is no ModernBERT to transformers, or None if it is one. Dropout rates do not count."""
    encoder = config.encoder
    if encoder.masks != {"tokens": nn.Full()} or encoder.channels != {"tokens": (nn.Lookup.Config(field="input_ids"),)}:
        return "it needs the one stream `tokens`, of token vectors alone, under a full attention mask"
    blocks = _blocks(encoder)
    first, others = blocks[0], blocks[1:]
    if not isinstance(first, nn.AttentionBlock.Config) or not isinstance(first.attention_residual, nn.Plain.Config):
        return "its first attention needs a plain residual"
    if any(block != replace(first, attention_residual=None) for block in others):
        return "its layers are not all alike but for the first attention's residual"
    residual, attention, feed_forward = first.residual, first.attention, first.feed_forward
    if not isinstance(residual, nn.PreNorm.Config) or not isinstance(feed_forward, nn.GatedFeedForward.Config):
        return "its blocks need a gated feed-forward layer and normalization before each residual"
    if (residual.layer_norm_eps, residual.bias) != (encoder.layer_norm_eps, encoder.layer_norm_bias):
        return "its normalizations are not all alike"
    if [type(part) for part in attention.query_key] != [nn.Rotary.Config] or attention.gate is not None:
        return "its attention needs rotary positions, and nothing else done to queries, keys or what heads found"
    if config.pooler or config.heads.keys() - {MASKED_LM}:
        return "it has a pooler, or another head than that of masked LM"
    return None


def write_config(config: nn.Model.Config, vocabulary: Vocabulary) -> dict[str, Any]:
    """The content of `config.json` for a model without an `obstacle`."""
    encoder = config.encoder
    first = encoder.layers[0].block
    assert isinstance(first, nn.AttentionBlock.Config)
    assert isinstance(first.feed_forward, nn.GatedFeedForward.Config)
    (rotary,) = first.attention.query_key
    assert isinstance(rotary, nn.Rotary.Config)
    activations = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    head = config.heads.get(MASKED_LM)
    activation = head.activation if isinstance(head, nn.MaskedLMHead.Config) else first.feed_forward.activation
    cls, sep, pad = vocabulary.cls_id, vocabulary.sep_id, vocabulary.pad_id
    turning = {"rope_type": "default", "rope_theta": rotary.theta}
    return {
        "architectures": [architecture(config)],
        "model_type": MODEL_TYPE,
        "vocab_size": encoder.known_vocab_size,
        "hidden_size": encoder.hidden_size,
        "num_hidden_layers": encoder.num_hidden_layers,
        "num_attention_heads": first.attention.num_attention_heads,
        "intermediate_size": first.feed_forward.intermediate_size,
        "hidden_activation": activations[first.feed_forward.activation],
        "max_position_embeddings": rotary.max_position_embeddings,
        "initializer_range": encoder.initializer_range,
        "norm_eps": encoder.layer_norm_eps,
        "norm_bias": encoder.layer_norm_bias,
        "attention_bias": first.attention.bias,
        "mlp_bias": first.feed_forward.bias,
        "embedding_dropout": encoder.embedding_dropout,
        "attention_dropout": first.attention.dropout,
        "mlp_dropout": 0.0,
        "decoder_bias": True,
        "classifier_bias": True,
        "classifier_activation": activations[activation],
        "layer_types": [FULL] * encoder.num_hidden_layers,
        "rope_parameters": {FULL: turning, "sliding_attention": turning},
        # The same for transformers 4.
        "global_attn_every_n_layers": 1,
        "global_rope_theta": rotary.theta,
        "local_rope_theta": rotary.theta,
        "pad_token_id": pad,
        "bos_token_id": cls,
        "cls_token_id": cls,
        "eos_token_id": sep,
        "sep_token_id": sep,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }


def architecture(config: nn.Model.Config) -> str:
    """The class of transformers for this model's heads."""
    return next(name for name, heads in ARCHITECTURES.items() if config.heads.keys() == set(heads))


def transforms(config: nn.Model.Config) -> list[Transform]:
    """The table for a model without an `obstacle`."""
    encoder = config.encoder
    first = encoder.layers[0].block
    assert isinstance(first, nn.AttentionBlock.Config)
    biased = {
        "attention": first.attention.bias,
        "feed_forward": getattr(first.feed_forward, "bias", False),
        **dict.fromkeys(("attention_residual", "feed_forward_residual"), encoder.layer_norm_bias),
    }
    table: list[Transform] = [Rename("encoder.channels.tokens.0.table.weight", TOKEN_TABLE)]
    table += _module("encoder.norms.tokens", "model.embeddings.norm", bias=encoder.layer_norm_bias)
    for number in range(encoder.num_hidden_layers):
        for ours, theirs in _BLOCK.items():
            if number or theirs != "attn_norm":
                there = f"model.layers.{number}.{theirs}"
                table += _module(f"encoder.blocks.{number}.{ours}", there, bias=biased[ours.partition(".")[0]])
    table += _module("encoder.ends.tokens", "model.final_norm", bias=encoder.layer_norm_bias)
    if MASKED_LM in config.heads:
        table += _module("heads.masked_lm.dense", "head.dense", bias=True)
        table += _module("heads.masked_lm.norm", "head.norm", bias=encoder.layer_norm_bias)
        table.append(Rename("heads.masked_lm.bias", "decoder.bias"))
    return table


def _module(ours: str, theirs: str, *, bias: bool) -> Iterator[Transform]:
    for kind in ("weight", "bias") if bias else ("weight",):
        yield Rename(f"{ours}.{kind}", f"{theirs}.{kind}")


def _blocks(encoder: nn.Encoder.Config) -> list[nn.Block.Config]:
    """The configuration of every block, all with the same dropout."""
    return [
        from_dict(nn.Block.Config, without_dropout(to_dict(group.block)))
        for group in encoder.layers
        for _ in range(group.count)
    ]
