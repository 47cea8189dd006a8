"""Our own model folders: `bertsmith.json` says what the model is, `integrity.json` that nothing has changed since.

A model that has a form in transformers has, in the same folder, all that transformers and sentence-transformers need.
"""

from collections.abc import Collection
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import torch

from bertsmith import nn
from bertsmith.checkpoints.checkpoint import Checkpoint
from bertsmith.checkpoints.forms import form_of
from bertsmith.checkpoints.huggingface_config import SEQUENCE_HEADS, TOKEN_LABEL
from bertsmith.checkpoints.json_objects import read_object, write_object
from bertsmith.checkpoints.sentence_transformers import write_sentence_model
from bertsmith.checkpoints.source import Source, find_weights, most_positions
from bertsmith.checkpoints.transforms import Rename, Transform, stored_shapes
from bertsmith.checkpoints.weights import FILE_NAME, Storage, check_shapes, read_header, write_weights
from bertsmith.config import from_dict, to_dict
from bertsmith.errors import CheckpointError, ConfigError
from bertsmith.text import Tokenizer

DESCRIPTION = "bertsmith.json"
_FORMAT, _VERSION = "bertsmith-model", 1


@dataclass(frozen=True, kw_only=True)
class _TokenizerMark:
    """What a model remembers of the tokenizer that it was trained with. `sha256` decides; the rest is for people."""

    sha256: str
    behaviour: str
    lower_case: bool
    tokens: int


@dataclass(frozen=True, kw_only=True)
class _Description:
    """The content of `bertsmith.json` besides the free JSON: `task`, `lineage`, `sentence`."""

    format: str
    version: int
    model: nn.Model.Config
    tokenizer: _TokenizerMark
    pooling: nn.Pooling
    normalize: bool


def look(path: Path) -> Source:
    """Look at a folder that `write` made and somebody verified.

    Raises:
        CheckpointError: its parts do not belong together, or a newer version of bertsmith made it.
    """
    file = path / DESCRIPTION
    content = read_object(file)
    made = (content.get("format"), content.get("version"))
    if made != (_FORMAT, _VERSION):
        raise CheckpointError(
            f"{file}: has the format and version {made!r:.80}; this bertsmith reads {(_FORMAT, _VERSION)}. "
            "A newer one may read it."
        )
    task, lineage = content.pop("task", None), content.pop("lineage", None) or {}
    sentence = content.pop("sentence", None) or {}
    try:
        description = from_dict(_Description, content)
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from None
    if not isinstance(task, dict | None) or not isinstance(lineage, dict) or not isinstance(sentence, dict):
        raise CheckpointError(f"{file}: task, lineage and sentence must be objects.")
    weights = find_weights(path, FILE_NAME)
    stored = read_header(weights)
    transforms = _transforms(description.model, stored)
    with torch.device("meta"):  # before the tokenizer: that takes more time than all else here
        check_shapes(weights, stored, stored_shapes(transforms, description.model.build()))
    tokenizer = Tokenizer.load(path)
    if tokenizer.sha256 != description.tokenizer.sha256:
        raise CheckpointError(
            f"{path}: the tokenizer is not the one that the model was trained with: expected sha256 "
            f"{description.tokenizer.sha256}, found {tokenizer.sha256}. Copy the folder again, whole."
        )
    _check_vocabulary(tokenizer, description.model, str(path))
    return Source(
        path=path,
        format="bertsmith",
        config=description.model,
        tokenizer=tokenizer,
        weights=weights,
        transforms=transforms,
        names={name: name for name in stored},
        stored=stored,
        pooling=description.pooling,
        normalize=description.normalize,
        task=task,
        lineage=lineage,
        sentence=sentence,
    )


def write(folder: Path, checkpoint: Checkpoint, storage: Storage) -> None:
    """Write all files of a model folder into `folder`, which is empty.

    Raises:
        CheckpointError: the parts of the checkpoint do not belong together, or a weight is not finite as `storage`.
    """
    config = checkpoint.model.config
    _check_vocabulary(checkpoint.tokenizer, config, "The model is not saved")
    labels = _labels(checkpoint)
    tokenizer = copy(checkpoint.tokenizer)
    tokenizer.max_length = min(tokenizer.max_length, most_positions(config.encoder) or tokenizer.max_length)
    write_weights(checkpoint.model, _transforms(config), folder / FILE_NAME, storage)
    form = form_of(config)
    tokenizer.save(folder, inputs=form and form.inputs)
    if form is not None:
        write_object(folder / "config.json", form.write_config(config, labels, tokenizer.vocabulary))
        write_sentence_model(
            folder,
            checkpoint.pooling,
            normalize=checkpoint.normalize,
            model=checkpoint.model,
            max_length=tokenizer.max_length,
            settings=checkpoint.sentence,
        )
    description = _Description(
        format=_FORMAT,
        version=_VERSION,
        model=config,
        tokenizer=_TokenizerMark(
            sha256=tokenizer.sha256,
            behaviour=tokenizer.behaviour,
            lower_case=tokenizer.rules.lower_case,
            tokens=len(tokenizer.vocabulary),
        ),
        pooling=checkpoint.pooling,
        normalize=checkpoint.normalize,
    )
    free = {"task": to_dict(checkpoint.task), "lineage": to_dict(checkpoint.lineage)}
    if checkpoint.sentence:
        free["sentence"] = to_dict(checkpoint.sentence)
    write_object(folder / DESCRIPTION, to_dict(description) | free)


def _transforms(config: nn.Model.Config, stored: Collection[str] = ()) -> list[Transform]:
    """How a model of ours is stored: under the names of transformers where it has a form there, else under our own.

    Our own it is, too, where the tensors that are `stored` have them: the form may be younger than the folder.
    """
    with torch.device("meta"):
        own = [name for name, _ in config.build().named_parameters()]
    if (form := form_of(config)) is not None and set(own) != set(stored):
        return form.transforms(config)
    return [Rename(name, name) for name in own]


def _check_vocabulary(tokenizer: Tokenizer, config: nn.Model.Config, where: str) -> None:
    tokens, rows = len(tokenizer.vocabulary), config.encoder.known_vocab_size
    if tokens != rows:
        raise CheckpointError(f"{where}: the tokenizer has {tokens:,} tokens, and the model is made for {rows:,}.")


def _labels(checkpoint: Checkpoint) -> tuple[str, ...] | None:
    """The names of the head's scores, if it has one with labels and the task names them."""
    heads = checkpoint.model.config.heads
    head = next((heads[name] for name in (*SEQUENCE_HEADS.values(), TOKEN_LABEL) if name in heads), None)
    labels = (checkpoint.task or {}).get("labels")
    if not isinstance(head, nn.SequenceHead.Config | nn.TokenHead.Config) or labels is None:
        return None
    if not all(isinstance(label, str) for label in labels) or len(set(labels)) != len(labels):
        raise CheckpointError(f"The model is not saved: its labels must be different texts, got {list(labels)!r:.120}.")
    if len(labels) != head.num_labels:
        raise CheckpointError(
            f"The model is not saved: its head gives {head.num_labels} scores and the task names {len(labels)} labels."
        )
    return tuple(labels)
