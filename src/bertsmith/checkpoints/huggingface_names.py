"""Where each of our parameters is in a Hugging Face BERT (transformers 5.23.0 `modeling_bert.py`), and the old names.

`transforms` is the whole table, and works in both directions. `canonical_names` brings what older versions wrote to the
names of today first.
"""

from collections.abc import Iterable

from bertsmith import nn
from bertsmith.checkpoints.huggingface_config import ANSWER_SPAN, MASKED_LM, NEXT_SENTENCE, TASK_HEADS
from bertsmith.checkpoints.transforms import Padded, Rename, Stack, Transform

TOKEN_TABLE = "bert.embeddings.word_embeddings.weight"
LM_BIAS = "cls.predictions.bias"

TIED = {"cls.predictions.decoder.weight": TOKEN_TABLE, "cls.predictions.decoder.bias": LM_BIAS}
"""Tensors that files may hold a second time, and the tensor that each must equal."""

_A_ROW_A_TOKEN = {TOKEN_TABLE, LM_BIAS}
_BUFFERS = {"bert.embeddings.position_ids", "bert.embeddings.token_type_ids"}
_OLD_ENDINGS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}

# Within a block: our module, theirs.
_BLOCK = {
    "attention.output": "attention.output.dense",
    "attention_residual.norm": "attention.output.LayerNorm",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
    "feed_forward_residual.norm": "output.LayerNorm",
}


def transforms(config: nn.Model.Config, table_rows: int | None = None) -> list[Transform]:
    """The table for a model without an `obstacle`.

    `table_rows` are the tokens that a file has vectors for, if they are more than the model's: some trainers round up.
    """
    table: list[Transform] = [*_embeddings(config.encoder)]
    for n in range(config.encoder.num_hidden_layers):
        for kind in ("weight", "bias"):
            self_attention = f"bert.encoder.layer.{n}.attention.self"
            parts = tuple(f"{self_attention}.{part}.{kind}" for part in ("query", "key", "value"))
            table.append(Stack(f"encoder.blocks.{n}.attention.query_key_value.{kind}", parts))
        for ours, theirs in _BLOCK.items():
            table += _module(f"encoder.blocks.{n}.{ours}", f"bert.encoder.layer.{n}.{theirs}")
    if config.pooler:
        table += _module("pooler.dense", "bert.pooler.dense")
    for name in config.heads:
        table += _head(name)
    kept = config.encoder.known_vocab_size
    if table_rows in (None, kept):
        return table
    return [Padded(t.ours, t.theirs[0], kept, table_rows) if t.theirs[0] in _A_ROW_A_TOKEN else t for t in table]


def canonical_names(names: Iterable[str]) -> dict[str, str]:
    """Today's name of each tensor, and the name it has in the file. Buffers, which hold no weights, are left out.

    A bare `BertModel` is saved without the prefix `bert.`; versions before 1.0 wrote gamma and beta; a model that was
    trained on several devices may have been saved in its wrapper, as `module.`

    Raises:
        ValueError: two tensors of the file are the same one.
    """
    found: dict[str, str] = {}
    for name in names:
        today = name.removeprefix("module.")
        if today.startswith(("embeddings.", "encoder.", "pooler.")):
            today = f"bert.{today}"
        for old, new in _OLD_ENDINGS.items():
            if today.endswith(f".{old}"):
                today = today.removesuffix(old) + new
        if today in _BUFFERS:
            continue
        if today in found:
            raise ValueError(f"{found[today]} and {name} are the same tensor under two names")
        found[today] = name
    return found


def parts_present(names: Iterable[str]) -> tuple[bool, set[str]]:
    """Whether a file has a pooler, and the heads of pretraining that it has, by today's names.

    Released files hold more than the class that `architectures` names: bert-base-uncased says BertForMaskedLM and has
    the pooler and next-sentence prediction too.
    """
    prefixes = {"bert.pooler.": "pooler", "cls.predictions.": MASKED_LM, "cls.seq_relationship.": NEXT_SENTENCE}
    present = {part for name in names for prefix, part in prefixes.items() if name.startswith(prefix)}
    return "pooler" in present, present - {"pooler"}


def _embeddings(encoder: nn.Encoder.Config) -> Iterable[Transform]:
    theirs = {
        "input_ids": TOKEN_TABLE,
        "position_ids": "bert.embeddings.position_embeddings.weight",
        "token_type_ids": "bert.embeddings.token_type_embeddings.weight",
    }
    for i, channel in enumerate(encoder.channels["tokens"]):
        field = channel.field if isinstance(channel, nn.Lookup.Config) else "position_ids"
        yield Rename(f"encoder.channels.tokens.{i}.table.weight", theirs[field])
    yield from _module("encoder.norms.tokens", "bert.embeddings.LayerNorm")


def _head(name: str) -> list[Transform]:
    if name == MASKED_LM:
        return [
            *_module("heads.masked_lm.dense", "cls.predictions.transform.dense"),
            *_module("heads.masked_lm.norm", "cls.predictions.transform.LayerNorm"),
            Rename("heads.masked_lm.bias", LM_BIAS),
        ]
    if name == NEXT_SENTENCE:
        return _module("heads.next_sentence.classifier", "cls.seq_relationship")
    if name == ANSWER_SPAN:
        return _module("heads.answer_span.outputs", "qa_outputs")
    assert name in TASK_HEADS
    return _module(f"heads.{name}.classifier", "classifier")


def _module(ours: str, theirs: str) -> list[Transform]:
    return [Rename(f"{ours}.{kind}", f"{theirs}.{kind}") for kind in ("weight", "bias")]
