"""Hugging Face's `config.json` for BERT, and Google's `bert_config.json`, to and from our configuration.

Checked against transformers 5.23.0 `configuration_bert.py` and google-research/bert `modeling.py`, whose `BertConfig`
has the same keys. A key that decides nothing here is ignored only if it is known; any other is an error, because a key
that is not understood may be the one that changes the outputs.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal

from bertsmith import nn
from bertsmith.config import from_dict, require
from bertsmith.errors import ConfigError, nearest
from bertsmith.nn.feed_forward import Activation

ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]

MASKED_LM = "masked_lm"
NEXT_SENTENCE = "next_sentence"
SEQUENCE_HEADS: dict[ProblemType, str] = {
    "single_label_classification": "sequence_label",
    "regression": "sequence_score",
    "multi_label_classification": "multi_label",
}
"""The head of a `BertForSequenceClassification`, by what it was trained for."""

TOKEN_LABEL = "token_label"
ANSWER_SPAN = "answer_span"
MULTIPLE_CHOICE = "multiple_choice"
TASK_HEADS = (*SEQUENCE_HEADS.values(), TOKEN_LABEL, ANSWER_SPAN, MULTIPLE_CHOICE)
"""The heads of fine-tuning. A model has at most one of them."""

POOLED_HEADS = (NEXT_SENTENCE, *SEQUENCE_HEADS.values(), MULTIPLE_CHOICE)
"""The heads that score a sequence's pooled vector."""

SEQUENCE_CLASSIFICATION = "BertForSequenceClassification"
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "BertModel": (),
    "BertForPreTraining": (MASKED_LM, NEXT_SENTENCE),
    "BertForMaskedLM": (MASKED_LM,),
    "BertLMHeadModel": (MASKED_LM,),  # and a causal mask, if it is a decoder
    "BertForNextSentencePrediction": (NEXT_SENTENCE,),
    SEQUENCE_CLASSIFICATION: (),  # and one of SEQUENCE_HEADS
    "BertForTokenClassification": (TOKEN_LABEL,),
    "BertForQuestionAnswering": (ANSWER_SPAN,),
    "BertForMultipleChoice": (MULTIPLE_CHOICE,),
}
"""The classes of transformers that can be read, with the heads that each has."""

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu_squared",
    "silu": "silu",
}

# Keys whose value must be one of these, because any other makes a model that is not this BERT.
_FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": ("bert",),
    "position_embedding_type": ("absolute", None),
    "is_encoder_decoder": (False, None),
    "add_cross_attention": (False, None),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
    "per_layer_config": ({}, None),
}

# Keys that name code to be run. Nothing in a checkpoint is ever run.
_CODE = ("auto_map", "custom_pipelines", "trust_remote_code")

# Keys that decide nothing here, by what they are about. Names of tokens are decided by the tokenizer's own files.
_IGNORED = {
    key
    for keys in (
        "transformers_version _name_or_path name_or_path _commit_hash name language license library_name",
        "tokenizer_class torch_dtype dtype use_bfloat16 torchscript tf_legacy_loss xla_device gradient_checkpointing",
        "use_cache output_past chunk_size_feed_forward return_dict use_return_dict",
        "output_attentions output_hidden_states",
        "attn_implementation _attn_implementation _attn_implementation_autoset _attn_implementation_internal",
        "_flash_attn_2_enabled adapters adapter_fusion_models sentence_transformers finetuning_task",
        "task_specific_params prefix _num_labels label2id tie_word_embeddings tie_encoder_decoder",
        "tie_last_hidden_states cross_attention_hidden_size _auto_class",
        "bos_token_id eos_token_id eos_token_ids sep_token_id cls_token_id mask_token_id unk_token_id",
        # Google's multilingual and Chinese models
        "directionality pooler_type pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers",
        "pooler_size_per_head",
        # generation, which transformers 4 saved with every model
        "decoder_start_token_id max_length min_length max_new_tokens do_sample early_stopping num_beams",
        "num_beam_groups",
        "diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size",
        "encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores output_logits",
        "return_dict_in_generate forced_bos_token_id forced_eos_token_id remove_invalid_values",
        "exponential_decay_length_penalty suppress_tokens begin_suppress_tokens",
    )
    for key in keys.split()
}

_LIMITS = {
    "vocab_size": 10_000_000,
    "hidden_size": 65_536,
    "num_hidden_layers": 1_000,
    "num_attention_heads": 4_096,
    "intermediate_size": 1_000_000,
    "max_position_embeddings": 10_000_000,
    "type_vocab_size": 1_000_000,
}


@dataclass(frozen=True, kw_only=True)
class SavedClass:
    """The keys of a `config.json` that say which class was saved, and what its head is for.

    `architectures` is empty for a file that does not say which class was saved.
    """

    architectures: tuple[str, ...] = ()
    problem_type: ProblemType | None = None
    num_labels: int | None = None
    id2label: dict[str, str] | None = None

    @property
    def architecture(self) -> str | None:
        """The class of transformers that was saved; it lists one, and its readers look at the first."""
        return self.architectures[0] if self.architectures else None

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of a head's scores, in their order. Hugging Face's default is two nameless ones."""
        if self.id2label is None:
            count = 2 if self.num_labels is None else self.num_labels
            require(0 < count <= 1_000_000, "num_labels", f"expected 1 to 1,000,000, got {count}")
            return tuple(f"LABEL_{i}" for i in range(count))
        wanted = [str(i) for i in range(len(self.id2label))]
        listed = bool(wanted) and self.id2label.keys() == set(wanted)
        require(listed, "id2label", f"expected the keys 0 to n - 1, got {sorted(self.id2label)!r:.80}")
        return tuple(self.id2label[key] for key in wanted)

    @property
    def sequence_problem(self) -> ProblemType:
        """What a sequence head was trained for; where the file does not say, as transformers decides: by the count."""
        if self.problem_type is not None:
            return self.problem_type
        return "regression" if len(self.labels) == 1 else "single_label_classification"


@dataclass(frozen=True, kw_only=True)
class BertConfig(SavedClass):
    """The keys of a BERT's `config.json` that decide what the model is, with the defaults of transformers."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    is_decoder: bool | None = False

    def __post_init__(self) -> None:
        for name, most in _LIMITS.items():
            value = getattr(self, name)
            require(0 < value <= most, name, f"expected 1 to {most:,}, got {value!r:.40}")
        multiple = self.hidden_size % self.num_attention_heads == 0
        require(multiple, "hidden_size", f"{self.hidden_size} is not a multiple of {self.num_attention_heads} heads")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"):
            value = getattr(self, name)
            require(value is None or 0 <= value < 1, name, f"expected 0 to less than 1, got {value}")
        for name, most in (("initializer_range", 100), ("layer_norm_eps", 1)):
            value = getattr(self, name)
            require(0 < value <= most, name, f"expected more than 0, at most {most}, got {value}")
        if self.hidden_act not in ACTIVATIONS:
            raise ConfigError(
                f"hidden_act: {self.hidden_act!r:.80} is not known.{nearest(self.hidden_act, ACTIVATIONS)}"
            )
        for name in self.architectures[:1]:
            if name not in ARCHITECTURES:
                raise ConfigError(f"architectures: {name!r:.80} is not supported.{nearest(name, ARCHITECTURES)}")
        if self.problem_type == "regression" and self.architecture == SEQUENCE_CLASSIFICATION:
            require(
                len(self.labels) == 1, "problem_type", f"regression with {len(self.labels)} scores is not supported"
            )

    def heads(self) -> set[str]:
        """The heads that the saved class has."""
        if self.architecture == SEQUENCE_CLASSIFICATION:
            return {SEQUENCE_HEADS[self.sequence_problem]}
        return set(ARCHITECTURES[self.architecture]) if self.architecture else set()

    def model_config(self, *, pooler: bool, heads: Collection[str], tokens: int | None = None) -> nn.Model.Config:
        """Our configuration of this model, with `heads` of those that the names of this module know.

        `tokens` are those of the tokenizer, if they are fewer than the vectors in the file.
        """
        activation = ACTIVATIONS[self.hidden_act]
        block = nn.AttentionBlock.Config(
            attention=nn.Attention.Config(
                num_attention_heads=self.num_attention_heads, dropout=self.attention_probs_dropout_prob
            ),
            feed_forward=nn.FeedForward.Config(intermediate_size=self.intermediate_size, activation=activation),
            residual=nn.PostNorm.Config(dropout=self.hidden_dropout_prob, layer_norm_eps=self.layer_norm_eps),
        )
        encoder = nn.Encoder.Config(
            hidden_size=self.hidden_size,
            vocab_size=tokens or self.vocab_size,
            channels={
                "tokens": (
                    nn.Lookup.Config(field="input_ids"),
                    nn.Position.Config(max_position_embeddings=self.max_position_embeddings),
                    nn.Lookup.Config(field="token_type_ids", size=self.type_vocab_size),
                )
            },
            layers=(nn.Layers(count=self.num_hidden_layers, block=block),),
            masks={"tokens": nn.Causal() if self.is_decoder else nn.Full()},
            embedding_dropout=self.hidden_dropout_prob,
            layer_norm_eps=self.layer_norm_eps,
            initializer_range=self.initializer_range,
        )
        dropout = self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout
        configs: dict[str, nn.Head.Config] = {
            MASKED_LM: nn.MaskedLMHead.Config(activation=activation),
            NEXT_SENTENCE: nn.SequenceHead.Config(num_labels=2, dropout=0.0),
            TOKEN_LABEL: nn.TokenHead.Config(num_labels=len(self.labels), dropout=dropout),
            ANSWER_SPAN: nn.SpanHead.Config(),
            MULTIPLE_CHOICE: nn.SequenceHead.Config(num_labels=1, dropout=dropout),
        }
        for name in SEQUENCE_HEADS.values():
            configs[name] = nn.SequenceHead.Config(num_labels=len(self.labels), dropout=dropout)
        return nn.Model.Config(encoder=encoder, pooler=pooler, heads={name: configs[name] for name in sorted(heads)})


def read_config(data: Mapping[str, Any]) -> BertConfig:
    """Understand the content of `config.json` or `bert_config.json`.

    Google's file has no `model_type` and its class counts 16 segments where the file gives no number.

    Raises:
        ConfigError: a key is unknown, or a value is of a wrong type, out of range or of another kind of model.
    """
    values = deciding_values(data, BertConfig, _FIXED, kind="BERT")
    if "model_type" not in data and not data.get("architectures"):
        values.setdefault("type_vocab_size", 16)
    return from_dict(BertConfig, values)


def deciding_values(
    data: Mapping[str, Any], wanted: type, fixed: Mapping[str, tuple[Any, ...]], *, kind: str
) -> dict[str, Any]:
    """The values of `data` for the fields of the dataclass `wanted`, of a `kind` of models.

    Raises:
        ConfigError: a key is unknown, names code, or has another value than `fixed` allows it.
    """
    for name in _CODE:
        require(not data.get(name), name, "this model brings its own code, and code from a checkpoint is never run")
    for name, allowed in fixed.items():
        if name in data and not any(type(data[name]) is type(value) and data[name] == value for value in allowed):
            raise ConfigError(f"{name}: {data[name]!r:.80} is not supported; expected {allowed[0]!r}")
    known = {field.name for field in fields(wanted)}
    for name in data:
        if name not in known | fixed.keys() | _IGNORED | set(_CODE):
            near = get_close_matches(name, known | fixed.keys() | _IGNORED, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else " It may change what the model computes."
            raise ConfigError(f"{name[:80]}: no {kind} configuration has this key.{hint}")
    values = {name: value for name, value in data.items() if name in known}
    if values.get("architectures", ()) is None:
        del values["architectures"]
    return values
