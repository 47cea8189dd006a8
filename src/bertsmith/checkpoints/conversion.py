"""From any folder that is read to any format that is written: `convert`, and what it says of what it did."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from bertsmith.checkpoints import bertsmith_folder, google_folder, onnx_folder
from bertsmith.checkpoints.checkpoint import Checkpoint
from bertsmith.checkpoints.folder import look
from bertsmith.checkpoints.forms import form_of, obstacles
from bertsmith.checkpoints.huggingface_config import TASK_HEADS
from bertsmith.checkpoints.source import Source
from bertsmith.checkpoints.tokenizer_checks import tokenizer_remarks
from bertsmith.errors import CheckpointError, UsageError, nearest
from bertsmith.folders import publish, sha256_of

Format: TypeAlias = Literal["hf", "st", "tf", "onnx"]
"""transformers, sentence-transformers, the original code for TensorFlow 1, onnxruntime."""

VECTORS = "none"
"""What `head` is called where a graph is to give vectors."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What `convert` did.

    Attributes:
        source: the folder that was read.
        source_format: bertsmith, huggingface, sentence-transformers or google.
        target: the folder that was written.
        to: its format.
        files: the files in it with their sizes in bytes, by name.
        left_out: sentences on what the source has and the target has not.
        remarks: what the source does not say, and what was assumed instead.
        checked: sentences on what was compared after writing.
        max_difference: how far the written graph's numbers are from ours at most; None where weights were copied exactly.
    """

    source: Path
    source_format: str
    target: Path
    to: Format
    files: Mapping[str, int]
    left_out: tuple[str, ...]
    remarks: tuple[str, ...]
    checked: tuple[str, ...]
    max_difference: float | None = None


def convert(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, to: Format, head: str | None = None
) -> Conversion:
    """Read the model in `source`, whatever made it, and publish it as `target`, whole or not at all.

    "hf" and "st" are one folder, bertsmith's own, which transformers, sentence-transformers and text-embeddings-inference
    load as it is. "tf" is what the original code reads. "onnx" is one graph from tokens to what the model is for: the
    scores of its fine-tuned head, else its vector; `head` names another head, or "none" for vectors all the same.

    This is the only place where a pytorch_model.bin is read, tensor by tensor; nothing in it is ever run.

    Raises:
        CheckpointError: the source is not whole or no model, or the model has no form in the wanted format.
        UsageError: something is at `target`, or there is no such format or head.
        MissingExtra: "onnx" without the packages that it needs.
    """
    if to not in get_args(Format):
        raise UsageError(f"There is no format {str(to)!r:.40}.{nearest(str(to), get_args(Format))}")
    if head is not None and to != "onnx":
        raise UsageError(f"A head is chosen for ONNX graphs; the format {to} keeps all of them.")
    if os.path.lexists(target):
        raise UsageError(f"{target}: this already exists, and nothing is ever written over. Choose another place.")
    found = look(source, thorough=True, pickled=True)
    checkpoint = _with_origin(found)
    checked: list[str] = []
    difference: float | None = None
    with publish(target) as folder:
        if to == "onnx":
            graph = _head_of_graph(checkpoint, head)
            result = onnx_folder.write(folder, checkpoint, graph)
            difference = result.max_difference
            checked.append(
                f"onnxruntime gave our own numbers for {result.texts} texts in ragged batches, to {difference:.1e}: "
                f"{', '.join(result.outputs)}"
            )
            left_out = _not_in_a_graph(checkpoint, graph)
        else:
            _WRITERS[to](folder, checkpoint)
            left_out = _LEFT_OUT[to](checkpoint)
    target = Path(target)
    files = {f.relative_to(target).as_posix(): f.stat().st_size for f in sorted(target.rglob("*")) if f.is_file()}
    return Conversion(
        source=found.path,
        source_format=found.format,
        target=target,
        to=to,
        files=files,
        left_out=(*left_out, *_tensors_left_out(found)),
        remarks=(*found.remarks, *_further_remarks(found)),
        checked=tuple(checked),
        max_difference=difference,
    )


def _with_origin(found: Source) -> Checkpoint:
    """What was found, with a lineage that says what it was made from, if it has none of its own."""
    checkpoint = found.load()
    if checkpoint.lineage:
        return checkpoint
    files = {file.name: sha256_of(file) for file in found.parts or (found.weights,)}
    return replace(checkpoint, lineage={"converted_from": {"format": found.format, "sha256": files}})


def _write_everybodys(folder: Path, checkpoint: Checkpoint) -> None:
    config = checkpoint.model.config
    if form_of(config) is None:
        raise CheckpointError(f"This model has no form in transformers or sentence-transformers: {obstacles(config)}.")
    bertsmith_folder.write(folder, checkpoint, "float32")


def _write_google(folder: Path, checkpoint: Checkpoint) -> None:
    google_folder.save(checkpoint, folder)


_WRITERS: Mapping[str, Callable[[Path, Checkpoint], None]] = {
    "hf": _write_everybodys,
    "st": _write_everybodys,
    "tf": _write_google,
}


def _not_in_everybodys(checkpoint: Checkpoint) -> Iterator[str]:
    if checkpoint.tokenizer.behaviour != "hf":
        yield (
            f"the tokenizer's behaviour {checkpoint.tokenizer.behaviour!r} is for bertsmith alone: transformers knows only "
            "its own, which differs in rare characters"
        )
    form = form_of(checkpoint.model.config)
    architecture = form and form.architecture(checkpoint.model.config)
    names = [name for name in checkpoint.model.config.heads if name in TASK_HEADS]
    if names and len(checkpoint.model.config.heads) > 1:
        others = ", ".join(name for name in checkpoint.model.config.heads if name not in names)
        yield f"transformers loads it as {architecture}, which does not use the head {others}; the weights are in the file"


def _not_in_google(checkpoint: Checkpoint) -> Iterator[str]:
    yield f"pooling by {checkpoint.pooling.kind!r}{' and normalization' * checkpoint.normalize}: it has no place for it"
    if checkpoint.sentence:
        yield f"{', '.join(checkpoint.sentence)}: it has no place for them"


def _not_in_a_graph(checkpoint: Checkpoint, head: str | None) -> Iterator[str]:
    if others := sorted(checkpoint.model.heads.keys() - {head}):
        yield f"the head {', '.join(others)}: a graph has one purpose; choose another with `head`"
    if head is not None:
        yield "the vectors: `head` none gives a graph for them"
    yield "dropout: a graph is for use, not for training"


_LEFT_OUT: Mapping[str, Callable[[Checkpoint], Iterator[str]]] = {
    "hf": _not_in_everybodys,
    "st": _not_in_everybodys,
    "tf": _not_in_google,
}


def _further_remarks(found: Source) -> Iterator[str]:
    """On the types of the weights, and what looks odd about the tokenizer of a folder that nobody hashed."""
    used = {found.stored[found.names[name]].dtype for transform in found.transforms for name in transform.theirs}
    if others := sorted(used - {"F32"}):
        yield f"weights of the type {', '.join(others)} are float32 from here on"
    if found.format != "bertsmith":
        yield from tokenizer_remarks(found.weights.parent, found.tokenizer)


def _tensors_left_out(found: Source) -> Iterator[str]:
    """Tensors of the file that are no weights of the model: buffers, those that stand there twice, a replaced pooler."""
    used = {found.names[name] for transform in found.transforms for name in transform.theirs}
    if extra := sorted(found.stored.keys() - used):
        yield f"tensors that the model does not use: {', '.join(extra)}"


def _head_of_graph(checkpoint: Checkpoint, head: str | None) -> str | None:
    """The head that was asked for, or the one of fine-tuning; None for vectors."""
    if head is not None:
        return None if head == VECTORS else head
    return next((name for name in checkpoint.model.config.heads if name in TASK_HEADS), None)
