"""The files that make a model folder a sentence-transformers model: which modules run, and how tokens are pooled.

Written in the layout of versions up to 5.3, the one that every reader accepts: sentence-transformers 6.2 converts it,
and text-embeddings-inference needs its keys. The layout of 5.4 and later is read too. Module types in `modules.json`
are import paths; here they are names to be recognised, and nothing is imported.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertsmith import nn
from bertsmith.checkpoints.json_objects import read_object, read_objects, write_object
from bertsmith.checkpoints.transforms import Rename, Transform
from bertsmith.checkpoints.weights import FILE_NAME as WEIGHTS
from bertsmith.checkpoints.weights import write_weights
from bertsmith.errors import CheckpointError, nearest

MODULES = "modules.json"
_POOLING_FOLDER = "1_Pooling"
_TRANSFORMER_CONFIG = "sentence_bert_config.json"
_MODEL_CONFIG = "config_sentence_transformers.json"
_LAYOUT = "5.3.0"

# The pooling modes by their names of 5.4 and later, and the key of each in the layout before.
_MODE_KEYS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
_POOLINGS: dict[str, nn.Pooling] = {
    pooling.kind: pooling
    for pooling in (
        nn.ClsPooling(),
        nn.MeanPooling(),
        nn.MaxPooling(),
        nn.RootMeanPooling(),
        nn.WeightedMeanPooling(),
        nn.LastTokenPooling(),
    )
}

# What is kept of a model's other settings, and what is written where there are none.
_SETTINGS: dict[str, Any] = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
_INCLUDE_PROMPT = "include_prompt"

DENSE: list[Transform] = [Rename(f"dense.{kind}", f"linear.{kind}") for kind in ("weight", "bias")]
"""A pooler's parameters, and their names in the file of a dense layer."""

_TANH = "torch.nn.modules.activation.Tanh"


@dataclass(frozen=True)
class SentenceModel:
    """What a folder says on making one vector of a text.

    `transformer` is the folder with the encoder's files. `max_length` is None where the tokenizer's files say it.
    `settings` is the rest, as `Checkpoint.sentence`. `dense` is the folder of a dense layer that is BERT's pooler.
    """

    transformer: Path
    pooling: nn.Pooling
    normalize: bool
    max_length: int | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    dense: Path | None = None


def read_sentence_model(folder: Path) -> SentenceModel | None:
    """What `folder` says, or None where it is no sentence-transformers folder.

    Raises:
        CheckpointError: it needs a module, a pooling mode or a prompt that is not supported here.
    """
    file = folder / MODULES
    if not file.is_file():
        return None
    names, paths = _read_modules(file)
    if names[:2] != ["Transformer", "Pooling"] or names[2:] not in (
        [],
        ["Normalize"],
        ["Dense"],
        ["Dense", "Normalize"],
    ):
        raise CheckpointError(
            f"{file}: runs {', '.join(names) or 'nothing'}; supported are Transformer, Pooling, and perhaps Dense and "
            "Normalize."
        )
    transformer = folder / paths[0]
    pooling, include_prompt = _read_pooling(folder / paths[1] / "config.json")
    dense = folder / paths[2] if "Dense" in names else None
    if dense is not None:
        _check_dense(dense / "config.json", pooling)
        pooling = nn.PoolerPooling()
    return SentenceModel(
        transformer=transformer,
        pooling=pooling,
        normalize="Normalize" in names,
        max_length=_read_max_length(transformer / _TRANSFORMER_CONFIG),
        settings=_read_settings(folder / _MODEL_CONFIG) | include_prompt,
        dense=dense,
    )


def write_sentence_model(
    folder: Path,
    pooling: nn.Pooling,
    *,
    normalize: bool,
    model: nn.Model,
    max_length: int,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write the files beside those of the encoder, which lies in `folder` itself. `settings` as `Checkpoint.sentence`.

    The vector of a pooler is that of [CLS] behind a dense layer there, so the pooler's weights are written once more.

    Raises:
        CheckpointError: sentence-transformers has no such pooling, or the model has no pooler to pool with.
    """
    hidden_size = model.config.encoder.hidden_size
    pooled = isinstance(pooling, nn.PoolerPooling)
    if pooled and model.pooler is None:
        raise CheckpointError("The model is not saved: its vectors are to come from a pooler, and it has none.")
    pooling = nn.ClsPooling() if pooled else pooling
    if pooling not in _POOLINGS.values():
        raise CheckpointError(
            f"sentence-transformers has no pooling {pooling.kind!r}.{nearest(pooling.kind, _POOLINGS)}"
        )
    names = ["Transformer", "Pooling", *["Dense"] * pooled, *["Normalize"] * normalize]
    modules = [(name, f"{i}_{name}" if i else "") for i, name in enumerate(names)]
    types = "sentence_transformers.models"
    write_object(
        folder / MODULES,
        [{"idx": i, "name": str(i), "path": path, "type": f"{types}.{name}"} for i, (name, path) in enumerate(modules)],
    )
    for _, path in modules[1:]:
        (folder / path).mkdir()
    if normalize:
        write_object(folder / modules[-1][1] / "config.json", {})  # an empty folder would not survive git or an archive
    if pooled and model.pooler is not None:
        dense = folder / modules[2][1]
        sizes = {"in_features": hidden_size, "out_features": hidden_size, "bias": True}
        write_object(dense / "config.json", sizes | {"activation_function": _TANH})
        write_weights(model.pooler, DENSE, dense / WEIGHTS)
    write_object(
        folder / _POOLING_FOLDER / "config.json",
        {"word_embedding_dimension": hidden_size}
        | {key: mode == pooling.kind for mode, key in _MODE_KEYS.items()}
        | {_INCLUDE_PROMPT: (settings or {}).get(_INCLUDE_PROMPT, True)},
    )
    write_object(folder / _TRANSFORMER_CONFIG, {"max_seq_length": max_length, "do_lower_case": False})
    kept = {key: (settings or {}).get(key, value) for key, value in _SETTINGS.items()}
    write_object(folder / _MODEL_CONFIG, {"__version__": {"sentence_transformers": _LAYOUT}} | kept)


def _read_modules(file: Path) -> tuple[list[str], list[str]]:
    """Class names and paths of the modules, in the order in which they run."""
    names, paths = [], []
    for module in read_objects(file):
        kind, path = module.get("type"), module.get("path")
        if not isinstance(kind, str) or not isinstance(path, str):
            raise CheckpointError(f"{file}: each module needs a type and a path.")
        if not kind.startswith("sentence_transformers."):
            raise CheckpointError(f"{file}: {kind!r:.80} is a module with code of its own, which is never run.")
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise CheckpointError(f"{file}: {path!r:.80} lies outside the folder.")
        names.append(kind.rpartition(".")[2])
        paths.append(path)
    return names, paths


def _read_pooling(file: Path) -> tuple[nn.Pooling, dict[str, Any]]:
    """The pooling, and whether a prompt's tokens count in it, if they do not."""
    config = read_object(file)
    if "pooling_mode" in config:
        mode = config["pooling_mode"]
        modes = mode if isinstance(mode, list) else [mode]
    else:
        modes = [mode for mode, key in _MODE_KEYS.items() if config.get(key) is True] or ["mean"]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise CheckpointError(f"{file}: pools by {modes!r:.120}; supported is one of {', '.join(_POOLINGS)}.")
    return _POOLINGS[modes[0]], {} if config.get(_INCLUDE_PROMPT, True) else {_INCLUDE_PROMPT: False}


def _check_dense(file: Path, pooling: nn.Pooling) -> None:
    """Refuse a dense layer that is not BERT's pooler: tanh(W h[CLS] + b), with W square."""
    config = read_object(file)
    _expect(file, config, "activation_function", (_TANH, None))
    _expect(file, config, "bias", (True, None))
    _expect(file, config, "use_residual", (False, None))
    for key in ("module_input_name", "module_output_name"):
        _expect(file, config, key, ("sentence_embedding", None))
    square = config.get("in_features") == config.get("out_features")
    if not square or not isinstance(pooling, nn.ClsPooling):
        raise CheckpointError(
            f"{file}: is no pooler of BERT, which takes the vector of [CLS] and gives one of the same size; no other dense "
            "layer is supported."
        )


def _read_max_length(file: Path) -> int | None:
    """The longest input, if said here; the file also says whether text is lower-cased before it is tokenized."""
    if not file.is_file():
        return None
    config = read_object(file)
    _expect(file, config, "do_lower_case", (False, None))
    _expect(file, config, "transformer_task", ("feature-extraction", None))
    _expect(file, config, "module_output_name", ("token_embeddings", None))
    length = config.get("max_seq_length")
    if length is not None and (type(length) is not int or length < 1):
        raise CheckpointError(f"{file}: max_seq_length is {length!r:.40}; expected a count of tokens.")
    return length


def _read_settings(file: Path) -> dict[str, Any]:
    """The settings that are not the default; what would change vectors unasked, a prompt or a cut, is refused."""
    if not file.is_file():
        return {}
    config = read_object(file)
    _expect(file, config, "truncate_dim", (None,))
    _expect(file, config, "model_type", ("SentenceTransformer", None))
    prompts, default = config.get("prompts") or {}, config.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(prompt, str) for prompt in prompts.values()):
        raise CheckpointError(f"{file}: prompts must be texts by name.")
    if default is not None and prompts.get(default) != "":
        raise CheckpointError(f"{file}: puts the prompt {default!r:.80} before every text, which is not supported.")
    return {key: config[key] for key, value in _SETTINGS.items() if config.get(key) not in (value, None)}


def _expect(file: Path, config: dict[str, Any], key: str, allowed: tuple[Any, ...]) -> None:
    if config.get(key) not in allowed:
        raise CheckpointError(f"{file}: {key} is {config[key]!r:.80}; supported is {allowed[0]!r}.")
