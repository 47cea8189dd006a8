"""Checkpoints of the original BERT code, google-research/bert, for TensorFlow 1: read and written without TensorFlow.

bert_config.json  vocab.txt  bert_model.ckpt.index  bert_model.ckpt.data-00000-of-00001     as Google published them
checkpoint  model.ckpt-STEP.index  model.ckpt-STEP.data-00000-of-00001                      as its scripts leave them
"""

import re
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bertsmith import nn
from bertsmith.checkpoints import google_names
from bertsmith.checkpoints.checkpoint import Checkpoint
from bertsmith.checkpoints.google_models import shaped_like, tell_casing
from bertsmith.checkpoints.huggingface_config import (
    POOLED_HEADS,
    SEQUENCE_CLASSIFICATION,
    TASK_HEADS,
    BertConfig,
    read_config,
)
from bertsmith.checkpoints.huggingface_folder import MOST_PADDING, task_of
from bertsmith.checkpoints.huggingface_form import obstacle, write_config
from bertsmith.checkpoints.json_objects import read_object, write_object
from bertsmith.checkpoints.source import Source, most_positions
from bertsmith.checkpoints.tensor_bundle import TensorBundle, index_file, write_bundle
from bertsmith.checkpoints.transforms import to_stored
from bertsmith.checkpoints.weights import Stored
from bertsmith.errors import CheckpointError, ConfigError
from bertsmith.folders import INTEGRITY, read_small
from bertsmith.text import Tokenizer, Vocabulary

CONFIG = "bert_config.json"
PREFIX = "bert_model.ckpt"

# The file in which TensorFlow's Saver says which checkpoint of a folder is the newest.
_STATE = "checkpoint"
_MOST_STATE_BYTES = 1 << 20
_FILE_ENDINGS = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")

# The original code has no other, and no key for it (modeling.py, `layer_norm`).
_LAYER_NORM_EPS = 1e-12
_ACTIVATIONS = {"gelu", "relu"}

# What the original BertConfig has; its reader takes further keys and ignores them, so those for the head are ours to add.
_KEYS = (
    "attention_probs_dropout_prob",
    "hidden_act",
    "hidden_dropout_prob",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "type_vocab_size",
    "vocab_size",
)
_HEAD_KEYS = ("architectures", "problem_type", "id2label", "label2id")


def holds_checkpoint(path: Path) -> bool:
    """Whether `path` is the prefix of a TensorFlow checkpoint, or a folder with one whose weights are in no other form."""
    if not path.is_dir():
        return index_file(_prefix_of(path)).is_file()
    return any(path.glob("*.ckpt*.index")) and not any(path.glob("*.safetensors*"))


def look(path: Path) -> Source:
    """Look at a folder with a checkpoint, or at the checkpoint of the prefix `path`.

    Raises:
        CheckpointError: it is no checkpoint of this code, or one of its files is missing or damaged.
        VocabularyError: the vocabulary is missing or damaged.
    """
    prefix = _find_prefix(path)
    folder = prefix.parent
    bert, config_file = _read_bert(folder)
    bundle = TensorBundle.open(prefix)
    stored = {name: entry.stored for name, entry in bundle.entries.items()}
    weights, state = google_names.without_training_state(stored)
    said, bert = bert.architecture, _with_head(bert, stored)
    tokenizer, casing = _read_tokenizer(folder, bert)
    pooler, present = google_names.parts_present(weights)
    try:
        heads = bert.heads() | present
        pooler = pooler or not heads.isdisjoint(POOLED_HEADS)
        config = bert.model_config(pooler=pooler, heads=heads, tokens=len(tokenizer.vocabulary))
        task = task_of(bert)
    except ConfigError as error:
        raise CheckpointError(f"{config_file}: {error}") from None
    remarks = [casing, *_remarks(folder, bert, len(tokenizer.vocabulary), state)]
    if said != bert.architecture == SEQUENCE_CLASSIFICATION:
        remarks.append("output_weights is taken for the head of run_classifier.py, which scores a whole text")
    if task is not None and "labels" in task and bert.id2label is None:
        remarks.append("no labels are named: they are called LABEL_0, LABEL_1 ...")
    return Source(
        path=path,
        format="google",
        config=config,
        tokenizer=tokenizer,
        weights=index_file(prefix),
        transforms=google_names.transforms(config, bert.vocab_size),
        names={name: name for name in weights},
        stored={name: stored[name] for name in weights},
        pooling=nn.MeanPooling(),
        normalize=False,
        task=task,
        remarks=tuple(remarks),
        read=lambda name: bundle.read(name).float(),  # so that what float32 cannot hold is found to be infinite
        parts=bundle.data_files,
    )


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """Write `checkpoint` into `folder` as Google published its models; TensorFlow and the original code load it.

    `folder` is made where it does not exist. Beside the published files there are those of transformers for the tokenizer,
    because they alone say whether text is lower-cased. A vocabulary that was padded is cut back to the tokens.

    Raises:
        CheckpointError: the original code cannot compute this model, its parts do not belong together, or a weight is not
            finite. Nothing is written then.
    """
    model, tokenizer = checkpoint.model, copy(checkpoint.tokenizer)
    if (reason := _obstacle(model.config, tokenizer)) is not None:
        raise CheckpointError(f"This model has no form as a TensorFlow checkpoint of the original BERT: {reason}.")
    tokens, rows = len(tokenizer.vocabulary), model.config.encoder.known_vocab_size
    if tokens > rows:
        raise CheckpointError(
            f"The model is not saved: the tokenizer has {tokens:,} tokens, the model only {rows:,} vectors."
        )
    tensors = to_stored(google_names.transforms(model.config), model)
    for name in {google_names.TOKEN_TABLE, google_names.LM_BIAS} & tensors.keys():
        tensors[name] = tensors[name][:tokens]
    if broken := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise CheckpointError(
            f"The model is not saved: NaN or infinity in {', '.join(broken[:8])}. Go back to an older one."
        )
    written = write_config(model.config, labels=_labels(checkpoint), pad_token_id=tokenizer.vocabulary.pad_id)
    folder.mkdir(parents=True, exist_ok=True)
    positions = most_positions(model.config.encoder)
    tokenizer.max_length = min(tokenizer.max_length, positions or tokenizer.max_length)
    tokenizer.save(folder)
    kept = {key: written[key] for key in (*_KEYS, *_HEAD_KEYS) if key in written}
    write_object(folder / CONFIG, kept | {"vocab_size": tokens})
    write_bundle(folder / PREFIX, {name: tensor.to(torch.float32) for name, tensor in tensors.items()})
    lines = (f'{key}: "{PREFIX}"\n' for key in ("model_checkpoint_path", "all_model_checkpoint_paths"))
    (folder / _STATE).write_text("".join(lines), encoding="utf-8", newline="\n")


def _obstacle(config: nn.Model.Config, tokenizer: Tokenizer) -> str | None:
    """Why the original code cannot compute this model, or None if it can."""
    if (reason := obstacle(config)) is not None:
        return reason
    block = config.encoder.layers[0].block
    assert isinstance(block, nn.AttentionBlock.Config)
    assert isinstance(block.feed_forward, nn.FeedForward.Config)
    if config.encoder.layer_norm_eps != _LAYER_NORM_EPS:
        return f"its layer_norm_eps is {config.encoder.layer_norm_eps}, and there it is always {_LAYER_NORM_EPS}"
    if block.feed_forward.activation not in _ACTIVATIONS:
        return (
            f"its activation is {block.feed_forward.activation!r}, and there it is {' or '.join(sorted(_ACTIVATIONS))}"
        )
    rules = tokenizer.rules
    if rules.strips_accents != rules.lower_case or not rules.split_chinese:
        return "its tokenizer treats accents or Chinese characters as the original one never does"
    return None


def _prefix_of(path: Path) -> Path:
    """The prefix, where `path` is one or is one of a checkpoint's files, as a shell completes it."""
    return path.with_name(_FILE_ENDINGS.sub("", path.name))


def _find_prefix(path: Path) -> Path:
    """The one checkpoint that is meant by a folder or a prefix."""
    if not path.is_dir():
        return _prefix_of(path)
    found = sorted(_prefix_of(file) for file in path.glob("*.ckpt*.index"))
    newest = _newest(path / _STATE)
    if newest is None and len(found) > 1:
        raise CheckpointError(
            f"{path}: it holds several checkpoints, {', '.join(prefix.name for prefix in found[:8])}. Give the path of one, "
            f"{found[0]} for example."
        )
    prefix = found[0] if newest is None else path / newest
    if prefix not in found:
        raise CheckpointError(
            f"{path / _STATE}: it names {newest!r:.80}, which is not in this folder. Give the path of one that is, "
            f"{found[0]} for example."
        )
    return prefix


def _newest(file: Path) -> str | None:
    """The name of the checkpoint that Saver's file names, without the folder that it was in; None where it names none."""
    try:
        text = read_small(file, _MOST_STATE_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        return None
    named = re.search(r'^\s*model_checkpoint_path:\s*"([^"\n]+)"', text, re.MULTILINE)
    return None if named is None else re.split(r"[/\\]", named[1])[-1]


def _read_bert(folder: Path) -> tuple[BertConfig, Path]:
    file = next((folder / name for name in (CONFIG, "config.json") if (folder / name).is_file()), None)
    if file is None:
        raise CheckpointError(
            f"{folder}: it has no {CONFIG}, so the shape of the model is not known. Copy the one with which the model was "
            "trained, and its vocab.txt."
        )
    try:
        return read_config(read_object(file)), file
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from None


def _with_head(bert: BertConfig, stored: Mapping[str, Stored]) -> BertConfig:
    """`bert` with the head that the checkpoint has, where nothing but the names of its variables tells."""
    found = google_names.fine_tuned_head(stored)
    if found is None or not bert.heads().isdisjoint(TASK_HEADS):
        return bert
    name, architecture = found
    labels = next(iter(stored[name].shape), 1)
    return replace(bert, architectures=(architecture,), num_labels=labels)


def _read_tokenizer(folder: Path, bert: BertConfig) -> tuple[Tokenizer, str]:
    """The tokenizer, and in words, how its casing is known."""
    file = folder / "tokenizer_config.json"
    settings = read_object(file) if file.is_file() else {}
    if settings.get("do_lower_case") is not None or (folder / "tokenizer.json").is_file():
        named = "bertsmith_behaviour" in settings  # else the original behaviour goes with the original code
        tokenizer = Tokenizer.load(folder, behaviour=None if named else "google")
        reason = f"{'uncased' if tokenizer.rules.lower_case else 'cased'}, as the tokenizer's files say"
    else:
        vocabulary = Vocabulary.load(folder)
        lower_case, reason = tell_casing(folder.resolve().name, vocabulary)
        tokenizer = Tokenizer(vocabulary, lower_case=lower_case, behaviour="google", max_length=1_000_000)
    tokens = len(tokenizer.vocabulary)
    if not 0 <= bert.vocab_size - tokens <= MOST_PADDING:
        raise CheckpointError(
            f"{folder}: the tokenizer has {tokens:,} tokens and the model vectors for {bert.vocab_size:,}. Use the vocab.txt "
            "that the model was trained with."
        )
    tokenizer.max_length = min(tokenizer.max_length, bert.max_position_embeddings)
    return tokenizer, reason


def _remarks(folder: Path, bert: BertConfig, tokens: int, state: list[str]) -> Iterator[str]:
    sizes = {"num_hidden_layers": bert.num_hidden_layers, "hidden_size": bert.hidden_size}
    if alike := shaped_like(vocab_size=tokens, **sizes):
        yield f"of the size of Google's {' and '.join(f'{model.title} ({model.name})' for model in alike)}"
    if state:
        kinds = ", ".join(sorted({name.rpartition("/")[2] for name in state}))
        yield f"{len(state):,} variables of training are left out: {kinds}"
    if bert.vocab_size > tokens:
        yield f"{bert.vocab_size - tokens:,} vectors of padding behind the {tokens:,} tokens are left out: no text has them"
    if bert.hidden_act == "gelu":
        yield "gelu is computed exactly, as in transformers; the original code approximates it by tanh since February 2019"
    if not (folder / INTEGRITY).exists():
        yield "no integrity.json: TensorFlow's checksums show damage to the weights, but no change that was made on purpose"
    yield "no pooling is named: the mean of all tokens is assumed"


def _labels(checkpoint: Checkpoint) -> tuple[str, ...] | None:
    """The names of the scores of the head, if the task names them."""
    labels: Any = (checkpoint.task or {}).get("labels")
    heads = [head for name, head in checkpoint.model.config.heads.items() if name in TASK_HEADS]
    scores = getattr(heads[0], "num_labels", None) if heads else None
    if labels is None or scores is None:
        return None
    if len(set(labels)) != scores:
        raise CheckpointError(
            f"The model is not saved: its head gives {scores} scores, and the task names the labels {labels!r:.120}."
        )
    return tuple(labels)
