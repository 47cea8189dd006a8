"""Model folders that others made: transformers' and sentence-transformers'."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertsmith import nn
from bertsmith.checkpoints import huggingface_names as hf_names
from bertsmith.checkpoints import modernbert
from bertsmith.checkpoints.huggingface_config import (
    POOLED_HEADS,
    SEQUENCE_CLASSIFICATION,
    BertConfig,
    ProblemType,
    SavedClass,
    read_config,
)
from bertsmith.checkpoints.huggingface_weights import PICKLE, Weights, open_weights
from bertsmith.checkpoints.json_objects import read_object
from bertsmith.checkpoints.sentence_transformers import DENSE, read_sentence_model
from bertsmith.checkpoints.source import Source, find_weights, most_positions
from bertsmith.checkpoints.weights import FILE_NAME, check_shapes
from bertsmith.errors import CheckpointError, ConfigError
from bertsmith.text import Tokenizer

CONFIG_FILES = ("config.json", "bert_config.json")

_TASK_KINDS: dict[ProblemType, str] = {
    "single_label_classification": "classify",
    "regression": "regress",
    "multi_label_classification": "multilabel",
}

_UNNAMED_TASKS = {"BertForQuestionAnswering": "span", "BertForMultipleChoice": "choice"}

# Trainers round the vocabulary up to a multiple of 8, 64 or 128; more rows than that are another model's.
MOST_PADDING = 1024


def look(path: Path, *, pickled: bool = False) -> Source:
    """Look at a folder of transformers or sentence-transformers.

    With `pickled`, the tensors of a pytorch_model.bin will do; nothing in it is run.

    Raises:
        CheckpointError: it is no BERT, or one of its files is missing or damaged.
        VocabularyError: its tokenizer is missing, damaged or not BERT's.
    """
    sentence_model = read_sentence_model(path)
    folder = sentence_model.transformer if sentence_model else path
    config_file = _config_file(folder)
    weights = open_weights(folder, pickled=pickled)
    content = read_object(config_file)
    kind = modernbert if content.get("model_type") == modernbert.MODEL_TYPE else hf_names
    try:
        bert = modernbert.read_config(content) if kind is modernbert else read_config(content)
    except ConfigError as error:
        raise CheckpointError(f"{config_file}: {error}") from None
    try:
        names = kind.canonical_names(weights.stored)
    except ValueError as error:
        raise CheckpointError(f"{weights.file}: {error}.") from None
    names = _without_tied(weights, names, kind.TIED)
    if sentence_model and sentence_model.dense:
        weights, names = _with_dense(weights, names, open_weights(sentence_model.dense, pickled=pickled))
    tokenizer = _read_tokenizer(folder, bert)
    pooler, present = kind.parts_present(names)
    try:
        heads = bert.heads() | present
        pooled = kind is hf_names and not heads.isdisjoint(POOLED_HEADS)
        if sentence_model and sentence_model.dense and pooled:
            raise ConfigError("its heads and its dense layer need a pooler each, and a model has one")
        # The class that the configuration names, and whatever else the weights hold.
        config = bert.model_config(pooler=pooler or pooled, heads=heads, tokens=len(tokenizer.vocabulary))
    except ConfigError as error:
        raise CheckpointError(f"{config_file}: {error}") from None
    lengths = (most_positions(config.encoder), sentence_model and sentence_model.max_length)
    tokenizer.max_length = min(tokenizer.max_length, *(length for length in lengths if length))
    source = Source(
        path=path,
        format="huggingface",
        config=config,
        tokenizer=tokenizer,
        weights=weights.file,
        transforms=kind.transforms(config, bert.vocab_size),
        names=names,
        stored=weights.stored,
        pooling=nn.MeanPooling(),
        normalize=False,
        task=task_of(bert),
        remarks=tuple(_remarks(bert, tokenizer, weights)),
        read=None if weights.is_one_safetensors_file else weights.read,
        parts=weights.parts,
    )
    if sentence_model is None:
        return replace(source, remarks=(*source.remarks, "no pooling is named: the mean of all tokens is assumed"))
    return replace(
        source,
        format="sentence-transformers",
        pooling=sentence_model.pooling,
        normalize=sentence_model.normalize,
        sentence=sentence_model.settings,
    )


def _config_file(folder: Path) -> Path:
    for name in CONFIG_FILES:
        if (folder / name).is_file():
            return folder / name
    find_weights(folder, FILE_NAME)  # raises with the better message where another format is there
    raise CheckpointError(f"{folder}: it has no config.json, so the shape of the model is not known.")


def _without_tied(weights: Weights, names: Mapping[str, str], tied: Mapping[str, str]) -> dict[str, str]:
    """`names` without the tensors that stand in the file twice, which must be equal."""
    kept, file, stored = dict(names), weights.file, weights.stored
    for twin, original in tied.items():
        if twin not in kept:
            continue
        if original not in kept:
            kept[original] = kept.pop(twin)
            continue
        check_shapes(file, {twin: stored[kept[twin]]}, {twin: stored[kept[original]].shape})
        if not torch.equal(weights.read(kept[twin]), weights.read(kept[original])):
            raise CheckpointError(
                f"{file}: {kept[twin]} differs from {kept[original]}. Only models that tie the two are supported."
            )
        del kept[twin]
    return kept


def _with_dense(weights: Weights, names: Mapping[str, str], dense: Weights) -> tuple[Weights, dict[str, str]]:
    """The weights and names of a model whose pooler is a dense layer in a file of its own.

    The transformer's own pooler gives way to it: sentence-transformers does not run it.
    """
    mark = f"{dense.file.parent.name}/"
    stored = {**weights.stored, **{mark + name: found for name, found in dense.stored.items()}}

    def read(name: str) -> Tensor:
        return dense.read(name.removeprefix(mark)) if name.startswith(mark) else weights.read(name)

    renamed = {
        **{name: in_file for name, in_file in names.items() if not name.startswith("bert.pooler.")},
        **{f"bert.pooler.{transform.ours}": mark + transform.theirs[0] for transform in DENSE},
    }
    if missing := [name for name in renamed.values() if name not in stored]:
        raise CheckpointError(f"{dense.file}: has no {', '.join(missing)}. Copy the folder again, whole.")
    parts = (*(weights.parts or (weights.file,)), dense.file)
    return Weights(weights.file, stored, read, parts), renamed


def _read_tokenizer(folder: Path, bert: BertConfig | modernbert.ModernBertConfig) -> Tokenizer:
    tokenizer = Tokenizer.load(folder)
    tokens = len(tokenizer.vocabulary)
    if tokens > bert.vocab_size:
        raise CheckpointError(
            f"{folder}: the tokenizer has {tokens:,} tokens and the model only {bert.vocab_size:,} vectors for them. Use the "
            "tokenizer that the model was trained with."
        )
    if bert.vocab_size - tokens > MOST_PADDING:
        raise CheckpointError(
            f"{folder}: the model has vectors for {bert.vocab_size:,} tokens and the tokenizer has only {tokens:,}. Use the "
            "tokenizer that the model was trained with."
        )
    added = folder / "added_tokens.json"
    for token, index in read_object(added).items() if added.is_file() else ():
        if tokenizer.vocabulary.ids.get(token) != index:
            raise CheckpointError(f"{added}: adds {token!r:.80} to the vocabulary; added tokens are not supported.")
    return tokenizer


def _remarks(bert: BertConfig | modernbert.ModernBertConfig, tokenizer: Tokenizer, weights: Weights) -> Iterator[str]:
    yield "no integrity.json: a damaged number in the weights cannot be noticed"
    if weights.file.name.startswith(PICKLE):
        yield f"the weights are a pickle, {PICKLE}: only `bertsmith convert` reads them"
    tokens = len(tokenizer.vocabulary)
    if bert.vocab_size > tokens:
        yield (
            f"{bert.vocab_size - tokens:,} vectors of padding behind the {tokens:,} tokens are left out: no text has them"
        )
    if bert.is_decoder:
        yield "a decoder: each token sees only itself and those before it"


def task_of(bert: SavedClass) -> dict[str, Any] | None:
    """What the fine-tuned head of this class does, as a `Checkpoint` says it."""
    architecture = (bert.architecture or "").removeprefix("Modern")
    if architecture == "BertForTokenClassification":
        return {"kind": "tag", "labels": list(bert.labels)}
    if architecture in _UNNAMED_TASKS:
        return {"kind": _UNNAMED_TASKS[architecture]}
    if architecture != SEQUENCE_CLASSIFICATION:
        return None
    kind = _TASK_KINDS[bert.sequence_problem]
    return {"kind": kind} if kind == "regress" else {"kind": kind, "labels": list(bert.labels)}  # a number has no name
