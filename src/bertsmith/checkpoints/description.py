"""What a model folder holds, told without reading its weights: for `bertsmith models show` and `models list`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertsmith import nn
from bertsmith.checkpoints import modernbert
from bertsmith.checkpoints.bertsmith_folder import DESCRIPTION
from bertsmith.checkpoints.folder import is_foreign, look
from bertsmith.checkpoints.forms import form_of, obstacles
from bertsmith.checkpoints.huggingface_config import MASKED_LM
from bertsmith.checkpoints.json_objects import read_object
from bertsmith.checkpoints.source import Source, most_positions
from bertsmith.checkpoints.tokenizer_checks import tokenizer_remarks
from bertsmith.config import to_dict
from bertsmith.errors import CheckpointError
from bertsmith.folders import INTEGRITY, verify

# Folders further down than this are not looked into: runs/group/name/model is 4.
_DEEPEST = 5


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """All that can be known of a model folder without reading its weights, as JSON values.

    Keys: `path`, `format` (bertsmith, huggingface, sentence-transformers or google), `architecture` (the class of transformers
    that loads it, None if none does), `sizes`, `parameters`, `heads`, `pooler`, `task`, `tokenizer`, `pooling`,
    `normalize`, `sentence` (prompts and the like), `weights`, `lineage`, and `missing`, sentences on what it cannot do or
    does not say.

    Raises:
        CheckpointError, VocabularyError: as `load_model`; but hashes are not checked and numbers not looked at.
    """
    source = look(path, thorough=False, pickled=True)
    model = source.skeleton()
    config = source.config
    form = form_of(config)
    return {
        "path": str(source.path),
        "format": source.format,
        "architecture": form and form.architecture(config),
        "sizes": _sizes(config.encoder),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "heads": {name: to_dict(head) for name, head in config.heads.items()},
        "pooler": config.pooler,
        "task": to_dict(source.task),
        "tokenizer": {
            "behaviour": source.tokenizer.behaviour,
            "casing": "uncased" if source.tokenizer.rules.lower_case else "cased",
            "tokens": len(source.tokenizer.vocabulary),
            "max_length": source.tokenizer.max_length,
            "sha256": source.tokenizer.sha256,
        },
        "pooling": source.pooling.kind,
        "normalize": source.normalize,
        "sentence": to_dict(source.sentence),
        "weights": _weights(source),
        "lineage": to_dict(source.lineage),
        "missing": list(_missing(source)),
    }


def find_models(folder: str | os.PathLike[str]) -> list[Path]:
    """The model folders at or below `folder`, sorted; a run is found as the model inside it. None is checked.

    Raises:
        CheckpointError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder.")
    return sorted(_models_below(folder, _DEEPEST))


def _models_below(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / DESCRIPTION).is_file() or (is_foreign(folder) and _is_bert(folder)):
        yield folder
        return
    if depth == 0:
        return
    try:
        inside = sorted(folder.iterdir())
    except PermissionError:
        return
    for entry in inside:
        # A name with a dot in front is a folder that is just being written, or not for people.
        if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith("."):
            yield from _models_below(entry, depth - 1)


def _is_bert(folder: Path) -> bool:
    """Whether a configuration in `folder` is a BERT's: other programs have a config.json too."""
    try:
        return read_object(folder / "config.json").get("model_type") in ("bert", modernbert.MODEL_TYPE)
    except CheckpointError:
        return (folder / "bert_config.json").is_file() or (folder / "modules.json").is_file()


def _sizes(encoder: nn.Encoder.Config) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "vocab_size": encoder.known_vocab_size,
        "hidden_size": encoder.hidden_size,
        "num_hidden_layers": encoder.num_hidden_layers,
        "max_position_embeddings": most_positions(encoder),
    }
    block = encoder.layers[0].block
    if isinstance(block, nn.AttentionBlock.Config):
        sizes["num_attention_heads"] = block.attention.num_attention_heads
        if isinstance(block.feed_forward, nn.FeedForward.Config | nn.GatedFeedForward.Config):
            sizes["intermediate_size"] = block.feed_forward.intermediate_size
    return sizes


def _weights(source: Source) -> dict[str, Any]:
    hashes = verify(source.path, thorough=False) if (source.path / INTEGRITY).exists() else {}
    return {
        "file": source.weights.name,
        "bytes": sum(file.stat().st_size for file in source.parts or (source.weights,)),
        "dtypes": sorted({stored.dtype for stored in source.stored.values()}),
        "sha256": hashes.get(source.weights.name),
    }


def _missing(source: Source) -> Iterator[str]:
    heads = source.config.heads
    if MASKED_LM not in heads:
        yield "no masked-LM head: it cannot fill in masks, and pretraining it further starts with a new head"
    if source.task is None:
        yield "no task: it was not fine-tuned, so it cannot predict labels"
    if not source.lineage:
        yield "no lineage: where the model comes from is not known"
    if form_of(source.config) is None:
        yield f"no form for transformers and sentence-transformers: {obstacles(source.config)}"
    yield from source.remarks
    if source.format != "bertsmith":
        yield from tokenizer_remarks(source.weights.parent, source.tokenizer)
