"""Our pre-norm encoders as transformers knows them: ModernBERT (Warner et al. 2024), with full attention in every layer.

Checked against transformers 5.23.0 `modeling_modernbert.py` and `configuration_modernbert.py`. The sliding windows that
ModernBERT has in two of three layers we have not; a configuration that asks for them is refused. So is one without the
biases of its masked-LM head.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bertsmith import nn
from bertsmith.checkpoints.huggingface_config import (
    ACTIVATIONS,
    ANSWER_SPAN,
    MASKED_LM,
    MULTIPLE_CHOICE,
    SEQUENCE_HEADS,
    TASK_HEADS,
    TOKEN_LABEL,
    SavedClass,
    deciding_values,
)
from bertsmith.checkpoints.huggingface_form import head_keys, without_dropout
from bertsmith.checkpoints.transforms import Padded, Rename, Transform
from bertsmith.config import from_dict, require, to_dict
from bertsmith.errors import ConfigError, nearest
from bertsmith.text import Vocabulary

MODEL_TYPE = "modernbert"
SEQUENCE_CLASSIFICATION = "ModernBertForSequenceClassification"
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "ModernBertForMaskedLM": (MASKED_LM,),
    "ModernBertModel": (),
    SEQUENCE_CLASSIFICATION: (),  # and one of SEQUENCE_HEADS
    "ModernBertForTokenClassification": (TOKEN_LABEL,),
    "ModernBertForQuestionAnswering": (ANSWER_SPAN,),
    "ModernBertForMultipleChoice": (MULTIPLE_CHOICE,),
}
"""The classes of transformers, with the heads that each has."""

TOKEN_TABLE = "model.embeddings.tok_embeddings.weight"
TIED = {"decoder.weight": TOKEN_TABLE}
FULL = "full_attention"

_A_ROW_A_TOKEN = {TOKEN_TABLE, "decoder.bias"}

# Keys whose value must be one of these, because any other makes another model.
_FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": (MODEL_TYPE,),
    "mlp_dropout": (0.0, 0),
    "decoder_bias": (True,),
    "classifier_bias": (True,),
    "tie_word_embeddings": (True,),
    "quantization_config": (None,),
}
# Keys that decide nothing here.
_IGNORED = {
    "cls_token_id",
    "sep_token_id",
    "bos_token_id",
    "eos_token_id",
    "initializer_cutoff_factor",
    "local_attention",
    "local_rope_theta",
    "deterministic_flash_attn",
    "sparse_prediction",
    "sparse_pred_ignore_index",
    "reference_compile",
    "repad_logits_with_grad",
    "embedding_size",
}

_BLOCK = {
    "attention_residual.norm": "attn_norm",
    "attention.query_key_value": "attn.Wqkv",
    "attention.output": "attn.Wo",
    "feed_forward_residual.norm": "mlp_norm",
    "feed_forward.up": "mlp.Wi",
    "feed_forward.down": "mlp.Wo",
}


@dataclass(frozen=True, kw_only=True)
class ModernBertConfig(SavedClass):
    """The keys of a ModernBERT's `config.json` that decide what the model is, with the defaults of transformers."""

    vocab_size: int = 50368
    hidden_size: int = 768
    num_hidden_layers: int = 22
    num_attention_heads: int = 12
    intermediate_size: int = 1152
    hidden_activation: str = "gelu"
    classifier_activation: str = "gelu"
    max_position_embeddings: int = 8192
    initializer_range: float = 0.02
    norm_eps: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    embedding_dropout: float = 0.0
    attention_dropout: float = 0.0
    classifier_dropout: float = 0.0
    classifier_pooling: str = "cls"
    layer_types: tuple[str, ...] | None = None
    rope_parameters: Mapping[str, Mapping[str, str | float | None] | None] | None = None
    global_attn_every_n_layers: int = 3
    global_rope_theta: float = 160_000.0
    pad_token_id: int | None = None
    is_decoder: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "max_position_embeddings"):
            require(0 < getattr(self, name) <= 10_000_000, name, f"expected 1 to 10,000,000, got {getattr(self, name)}")
        for name in ("hidden_activation", "classifier_activation"):
            value = getattr(self, name)
            require(value in ACTIVATIONS, name, f"{value!r:.80} is not known.{nearest(value, ACTIVATIONS)}")
        for name in self.architectures[:1]:
            if name not in ARCHITECTURES:
                raise ConfigError(f"architectures: {name!r:.80} is not supported.{nearest(name, ARCHITECTURES)}")
        if self.architecture in (SEQUENCE_CLASSIFICATION, "ModernBertForMultipleChoice"):
            what = "the mean of all tokens as what a head reads is not supported; expected cls"
            require(self.classifier_pooling == "cls", "classifier_pooling", what)
        full = (FULL,) * self.num_hidden_layers
        if self.layer_types is None and self.num_hidden_layers > 1:
            require(self.global_attn_every_n_layers == 1, "global_attn_every_n_layers", _NO_WINDOWS)
        require(self.layer_types in (None, full), "layer_types", _NO_WINDOWS)
        kind = self._turning.get("rope_type", "default")
        require(kind == "default", "rope_parameters", f"rope_type {kind!r:.80} is not supported")

    @property
    def _turning(self) -> Mapping[str, str | float | None]:
        return (self.rope_parameters or {}).get(FULL) or {}

    def heads(self) -> set[str]:
        """The heads that the saved class has."""
        if self.architecture == SEQUENCE_CLASSIFICATION:
            return {SEQUENCE_HEADS[self.sequence_problem]}
        return set(ARCHITECTURES[self.architecture]) if self.architecture else set()

    def model_config(self, *, pooler: bool, heads: Collection[str], tokens: int | None = None) -> nn.Model.Config:
        """Our configuration of this model; `tokens` are those of the tokenizer, if they are fewer than the vectors."""
        rotary = nn.Rotary.Config(
            max_position_embeddings=self.max_position_embeddings,
            theta=float(self._turning.get("rope_theta") or self.global_rope_theta),
        )
        block = nn.AttentionBlock.Config(
            attention=nn.Attention.Config(
                num_attention_heads=self.num_attention_heads,
                dropout=self.attention_dropout,
                bias=self.attention_bias,
                query_key=(rotary,),
            ),
            feed_forward=nn.GatedFeedForward.Config(
                intermediate_size=self.intermediate_size,
                activation=ACTIVATIONS[self.hidden_activation],
                bias=self.mlp_bias,
            ),
            residual=nn.PreNorm.Config(dropout=0.0, layer_norm_eps=self.norm_eps, bias=self.norm_bias),
        )
        first = replace(block, attention_residual=nn.Plain.Config(dropout=0.0))
        others = (nn.Layers(count=self.num_hidden_layers - 1, block=block),) if self.num_hidden_layers > 1 else ()
        encoder = nn.Encoder.Config(
            hidden_size=self.hidden_size,
            vocab_size=tokens or self.vocab_size,
            channels={"tokens": (nn.Lookup.Config(field="input_ids"),)},
            layers=(nn.Layers(count=1, block=first), *others),
            masks={"tokens": nn.Full()},
            embedding_dropout=self.embedding_dropout,
            layer_norm_eps=self.norm_eps,
            layer_norm_bias=self.norm_bias,
            initializer_range=self.initializer_range,
        )
        activation, dropout = ACTIVATIONS[self.classifier_activation], self.classifier_dropout
        labels = len(self.labels)
        configs: dict[str, nn.Head.Config] = {
            MASKED_LM: nn.MaskedLMHead.Config(activation=activation),
            TOKEN_LABEL: nn.TokenHead.Config(num_labels=labels, dropout=dropout, transform=activation),
            ANSWER_SPAN: nn.SpanHead.Config(transform=activation),
            MULTIPLE_CHOICE: nn.SequenceHead.Config(num_labels=1, dropout=dropout, transform=activation),
        }
        for name in SEQUENCE_HEADS.values():
            configs[name] = nn.SequenceHead.Config(num_labels=labels, dropout=dropout, transform=activation)
        return nn.Model.Config(encoder=encoder, pooler=pooler, heads={name: configs[name] for name in sorted(heads)})


_NO_WINDOWS = "attention in sliding windows is not supported; every layer must have full attention"


def read_config(data: Mapping[str, Any]) -> ModernBertConfig:
    """Understand the content of a ModernBERT's `config.json`.

    Raises:
        ConfigError: a key is unknown, or a value is of a wrong type, out of range or of another kind of model.
    """
    kept = {name: value for name, value in data.items() if name not in _IGNORED}
    return from_dict(ModernBertConfig, deciding_values(kept, ModernBertConfig, _FIXED, kind="ModernBERT"))


def canonical_names(names: Iterable[str]) -> dict[str, str]:
    """The name of each tensor with the prefix `model.` that a bare `ModernBertModel` has not, and its name in the file."""
    bare = ("embeddings.", "layers.", "final_norm.")
    return {f"model.{name}" if name.startswith(bare) else name: name for name in names}


def parts_present(names: Iterable[str]) -> tuple[bool, set[str]]:
    """Whether a file has a pooler, which is never, and the heads of pretraining that it has."""
    return False, {MASKED_LM} if "decoder.bias" in set(names) else set()


def obstacle(config: nn.Model.Config) -> str | None:
    """Why a model of this shape is no ModernBERT to transformers, or None if it is one. Dropout rates do not count."""
    if config.mix is not None:
        return "its heads read a mix of all layers"
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
    if config.pooler or len(config.heads) > 1:
        return "it has a pooler, or several heads"
    return next(
        (f"its head {name!r} has no counterpart" for name, head in config.heads.items() if not _fits(name, head)), None
    )


def _fits(name: str, head: nn.Head.Config) -> bool:
    return name == MASKED_LM or (name in TASK_HEADS and getattr(head, "transform", None) is not None)


def write_config(
    config: nn.Model.Config, vocabulary: Vocabulary, labels: tuple[str, ...] | None = None
) -> dict[str, Any]:
    """The content of `config.json` for a model without an `obstacle`; `labels` name the scores of its head."""
    encoder = config.encoder
    first = encoder.layers[0].block
    assert isinstance(first, nn.AttentionBlock.Config)
    assert isinstance(first.feed_forward, nn.GatedFeedForward.Config)
    (rotary,) = first.attention.query_key
    assert isinstance(rotary, nn.Rotary.Config)
    activations = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    head = next(iter(config.heads.values()), None)
    activation = getattr(head, "activation", None) or getattr(head, "transform", None) or "gelu"
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
        "classifier_pooling": "cls",
        "classifier_dropout": getattr(head, "dropout", 0.0),
        **head_keys(config, labels),
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
    if any(name in SEQUENCE_HEADS.values() for name in config.heads):
        return SEQUENCE_CLASSIFICATION
    return next(name for name, heads in ARCHITECTURES.items() if config.heads.keys() == set(heads))


def transforms(config: nn.Model.Config, table_rows: int | None = None) -> list[Transform]:
    """The table for a model without an `obstacle`; `table_rows` are the tokens that a file has vectors for."""
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
    for name in config.heads:
        transform = f"heads.{name}" if name == MASKED_LM else f"heads.{name}.transform"
        table += _module(f"{transform}.dense", "head.dense", bias=True)
        table += _module(f"{transform}.norm", "head.norm", bias=encoder.layer_norm_bias)
        if name == MASKED_LM:
            table.append(Rename("heads.masked_lm.bias", "decoder.bias"))
        else:
            scores = "outputs" if name == ANSWER_SPAN else "classifier"
            table += _module(f"heads.{name}.{scores}", "classifier", bias=True)
    kept = encoder.known_vocab_size
    if table_rows in (None, kept):
        return table
    return [Padded(t.ours, t.theirs[0], kept, table_rows) if t.theirs[0] in _A_ROW_A_TOKEN else t for t in table]


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
