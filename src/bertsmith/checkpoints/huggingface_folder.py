"""Model folders that others made: transformers' and sentence-transformers'."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bertsmith import nn
from bertsmith.checkpoints import huggingface_names as hf_names
from bertsmith.checkpoints.huggingface_config import (
    POOLED_HEADS,
    SEQUENCE_CLASSIFICATION,
    BertConfig,
    ProblemType,
    read_config,
)
from bertsmith.checkpoints.json_objects import read_object
from bertsmith.checkpoints.sentence_transformers import read_sentence_model
from bertsmith.checkpoints.source import Source, find_weights, most_positions
from bertsmith.checkpoints.weights import FILE_NAME, Stored, check_shapes, read_header, read_tensor
from bertsmith.errors import CheckpointError, ConfigError
from bertsmith.text import Tokenizer

CONFIG_FILES = ("config.json", "bert_config.json")

_TASK_KINDS: dict[ProblemType, str] = {
    "single_label_classification": "classify",
    "regression": "regress",
    "multi_label_classification": "multilabel",
}

_UNNAMED_TASKS = {"BertForQuestionAnswering": "span", "BertForMultipleChoice": "choice"}


def look(path: Path) -> Source:
    """Look at a folder of transformers or sentence-transformers.

    Raises:
        CheckpointError: it is no BERT, or one of its files is missing or damaged.
        VocabularyError: its tokenizer is missing, damaged or not BERT's.
    """
    sentence_model = read_sentence_model(path)
    folder = sentence_model.transformer if sentence_model else path
    config_file = _config_file(folder)
    weights = find_weights(folder, FILE_NAME)
    try:
        bert = read_config(read_object(config_file))
    except ConfigError as error:
        raise CheckpointError(f"{config_file}: {error}") from None
    stored = read_header(weights)
    try:
        names = hf_names.canonical_names(stored)
    except ValueError as error:
        raise CheckpointError(f"{weights}: {error}.") from None
    names = _without_tied(weights, names, stored)
    config = _model_config(bert, names, config_file)
    tokenizer = _read_tokenizer(folder, bert)
    lengths = (most_positions(config.encoder), sentence_model and sentence_model.max_length)
    tokenizer.max_length = min(tokenizer.max_length, *(length for length in lengths if length))
    source = Source(
        path=path,
        format="huggingface",
        config=config,
        tokenizer=tokenizer,
        weights=weights,
        transforms=hf_names.transforms(config),
        names=names,
        stored=stored,
        pooling=nn.MeanPooling(),
        normalize=False,
        task=_task(bert),
        remarks=("no integrity.json: a damaged number in the weights cannot be noticed",),
    )
    if sentence_model is None:
        return replace(source, remarks=(*source.remarks, "no pooling is named: the mean of all tokens is assumed"))
    return replace(
        source,
        format="sentence-transformers",
        pooling=sentence_model.pooling,
        normalize=sentence_model.normalize,
    )


def _config_file(folder: Path) -> Path:
    for name in CONFIG_FILES:
        if (folder / name).is_file():
            return folder / name
    find_weights(folder, FILE_NAME)  # raises with the better message where another format is there
    raise CheckpointError(f"{folder}: it has no config.json, so the shape of the model is not known.")


def _model_config(bert: BertConfig, names: Mapping[str, str], file: Path) -> nn.Model.Config:
    """The class that the configuration names, and whatever else of a BERT the weights hold."""
    pooler, present = hf_names.parts_present(names)
    try:
        heads = bert.heads() | present
        return bert.model_config(pooler=pooler or not heads.isdisjoint(POOLED_HEADS), heads=heads)
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from None


def _without_tied(file: Path, names: Mapping[str, str], stored: Mapping[str, Stored]) -> dict[str, str]:
    """`names` without the tensors that stand in the file twice, which must be equal."""
    kept = dict(names)
    for twin, original in hf_names.TIED.items():
        if twin not in kept or original not in kept:
            continue
        check_shapes(file, {twin: stored[kept[twin]]}, {twin: stored[kept[original]].shape})
        if not torch.equal(read_tensor(file, kept[twin]), read_tensor(file, kept[original])):
            raise CheckpointError(
                f"{file}: {kept[twin]} differs from {kept[original]}. Only models that tie the two are supported."
            )
        del kept[twin]
    return kept


def _read_tokenizer(folder: Path, bert: BertConfig) -> Tokenizer:
    tokenizer = Tokenizer.load(folder)
    if len(tokenizer.vocabulary) > bert.vocab_size:
        raise CheckpointError(
            f"{folder}: the tokenizer has {len(tokenizer.vocabulary):,} tokens and the model only {bert.vocab_size:,} "
            "vectors for them. Use the tokenizer that the model was trained with."
        )
    return tokenizer


def _task(bert: BertConfig) -> dict[str, Any] | None:
    if bert.architecture == "BertForTokenClassification":
        return {"kind": "tag", "labels": list(bert.labels)}
    if bert.architecture in _UNNAMED_TASKS:
        return {"kind": _UNNAMED_TASKS[bert.architecture]}
    if bert.architecture != SEQUENCE_CLASSIFICATION:
        return None
    kind = _TASK_KINDS[bert.sequence_problem]
    return {"kind": kind} if kind == "regress" else {"kind": kind, "labels": list(bert.labels)}  # a number has no name
