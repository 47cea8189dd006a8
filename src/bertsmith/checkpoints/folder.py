"""Saving and loading a model: the two calls that everybody else uses."""

import os
from pathlib import Path

from bertsmith.checkpoints import bertsmith_folder, google_folder, huggingface_folder
from bertsmith.checkpoints.bertsmith_folder import DESCRIPTION
from bertsmith.checkpoints.checkpoint import Checkpoint
from bertsmith.checkpoints.huggingface_folder import CONFIG_FILES
from bertsmith.checkpoints.sentence_transformers import MODULES
from bertsmith.checkpoints.source import Source, find_weights
from bertsmith.checkpoints.weights import FILE_NAME, Storage
from bertsmith.errors import CheckpointError
from bertsmith.folders import INTEGRITY, publish, verify
from bertsmith.shipped import SHIPPED, resolve

RUN_MODEL = "model"
"""The folder inside a run folder that holds the run's model."""


def save_model(
    path: str | os.PathLike[str], checkpoint: Checkpoint, *, replace: bool = False, storage: Storage = "float32"
) -> Path:
    """Publish `checkpoint` as a model folder, whole or not at all, and return its path.

    A BERT-shaped model's folder is everybody's: transformers (`AutoModel`, `AutoTokenizer`, the `BertFor...` class),
    sentence-transformers and bertsmith load it as it is. Other models are for bertsmith alone. The same checkpoint
    gives the same bytes. Weights stored as float16 take half the room, and are float32 again once loaded, by everybody.

    Raises:
        CheckpointError: parts of the checkpoint do not belong together, or a weight is NaN, infinite or too large.
        UsageError: something is at `path`, and `replace` is False or it is not bertsmith's.
    """
    with publish(path, replace=replace) as folder:
        bertsmith_folder.write(folder, checkpoint, storage)
    return Path(path)


def load_model(path: str | os.PathLike[str]) -> Checkpoint:
    """Load a model folder: ours, a run's, one of transformers or sentence-transformers, or a TensorFlow checkpoint of the
    original code, by its folder or its prefix. On the CPU, in float32.

    A model that comes with the package is loaded by its name, `small-english`, unless there is a folder called so.

    Our folders are checked byte by byte. Others have no list of hashes and get the checks that are possible: the shape
    of every tensor, finite numbers, a vocabulary that fits. No code of a folder is ever run, and no pickle read.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
        VocabularyError: the tokenizer of a foreign folder is missing, damaged or not BERT's.
    """
    return look(path, thorough=True).load()


def look(path: str | os.PathLike[str], *, thorough: bool, pickled: bool = False) -> Source:
    """Look at a model folder without reading its weights; `thorough` checks the hashes of a folder of ours too,
    but for that of the weights, which `Source.read_model` checks. With `pickled`, a folder of transformers whose weights are
    a pytorch_model.bin will do: `convert` reads it.
    """
    path = resolve(Path(path))
    if not path.is_dir():
        if google_folder.holds_checkpoint(path):
            return google_folder.look(path)
        what = "this is a file, and a model is a folder" if path.exists() else "there is no such folder"
        raise CheckpointError(
            f"{path}: {what}. Models are folders on this machine, or come with bertsmith ({', '.join(SHIPPED)}); none is "
            "downloaded."
        )
    path = _model_in(path)
    if (path / DESCRIPTION).exists() or (path / INTEGRITY).exists():
        verify(path, thorough=thorough, later=(FILE_NAME,))
    if (path / DESCRIPTION).exists():
        return bertsmith_folder.look(path)
    if google_folder.holds_checkpoint(path):
        return google_folder.look(path)
    if is_foreign(path):
        return huggingface_folder.look(path, pickled=pickled)
    if (path / INTEGRITY).exists():
        raise CheckpointError(f"{path}: this folder was made by bertsmith, but it holds no model.")
    if (path / "run.json").is_file():
        raise CheckpointError(
            f"{path}: the run in it is not finished, so there is no model yet. `bertsmith pretrain --resume` goes on with a "
            "pretraining."
        )
    find_weights(path, FILE_NAME)
    raise CheckpointError(f"{path}: it has no config.json, so the shape of the model is not known.")


def is_foreign(path: Path) -> bool:
    """Whether the folder `path` has a configuration as transformers or sentence-transformers write it."""
    return any((path / name).is_file() for name in (MODULES, *CONFIG_FILES))


def _model_in(path: Path) -> Path:
    """The model folder at `path`, or inside it where `path` is a run."""
    inner = path / RUN_MODEL
    if inner.is_dir() and not (path / DESCRIPTION).exists() and not is_foreign(path):
        return inner
    return path
