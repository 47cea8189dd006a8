"""What a model folder holds, known before its weights are read.

Each format has one function that looks at a folder and returns a `Source`: `bertsmith_folder.look` for ours,
`huggingface_folder.look` for those of transformers and sentence-transformers, `google_folder.look` for checkpoints of the
original code. A further format is a further such function.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertsmith import nn
from bertsmith.checkpoints.checkpoint import Checkpoint
from bertsmith.checkpoints.transforms import Transform, stored_shapes
from bertsmith.checkpoints.weights import Stored, check_shapes, fill_finite, read_weights
from bertsmith.errors import CheckpointError
from bertsmith.folders import verify_listed
from bertsmith.text import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model folder that was looked at: all of it but the numbers in the weights file.

    `names` gives the name in the weights file of each name that `transforms` use. `read` gives a tensor by its name in
    the file, where the weights are not one safetensors file; `weights` is then the file that lists them, and `parts` are
    the files that it lists. `remarks` say what the folder does not, and what was assumed instead.
    """

    path: Path
    format: str
    config: nn.Model.Config
    tokenizer: Tokenizer
    weights: Path
    transforms: list[Transform]
    names: Mapping[str, str]
    stored: Mapping[str, Stored]
    pooling: nn.Pooling
    normalize: bool
    task: Mapping[str, Any] | None
    lineage: Mapping[str, Any] = field(default_factory=dict)
    sentence: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    read: Callable[[str], Tensor] | None = None
    parts: tuple[Path, ...] = ()

    def skeleton(self) -> nn.Model:
        """The model without memory for its weights, after checking that the file has exactly the weights it needs.

        Raises:
            CheckpointError: listing what is missing, unexpected or of a wrong shape.
        """
        with torch.device("meta"):
            model = self.config.build()
        found = {name: self.stored[in_file] for name, in_file in self.names.items()}
        check_shapes(self.weights, found, stored_shapes(self.transforms, model))
        return model

    def read_model(self) -> nn.Model:
        """The model with its weights, in evaluation mode.

        The hash of a listed file is checked only here, when all that its header shows is known to be right.
        """
        skeleton = self.skeleton()
        verify_listed(self.weights)
        model = skeleton.to_empty(device="cpu")
        if self.read is None:
            read_weights(model, self.transforms, self.weights, self.names)
        else:
            fill_finite(model, self.transforms, self.weights, self.names, self.read)
        return model.eval()

    def load(self) -> Checkpoint:
        """All of the folder, weights included."""
        return Checkpoint(
            model=self.read_model(),
            tokenizer=self.tokenizer,
            pooling=self.pooling,
            normalize=self.normalize,
            task=self.task,
            lineage=self.lineage,
            sentence=self.sentence,
            path=self.path,
        )


def most_positions(encoder: nn.Encoder.Config) -> int | None:
    """The longest input that the encoder takes; None if it has no limit."""
    return encoder.max_length if encoder.max_length < sys.maxsize else None


def find_weights(folder: Path, name: str) -> Path:
    """The weights file in `folder`; an error that says what is there instead, and what to do, if it is not there."""
    file = folder / name
    if file.is_file():
        return file
    pickle = (
        f"a pickle file, which can run code and is never loaded. `bertsmith convert {folder} NEW --to hf` makes a safe "
        "folder of it, and runs nothing"
    )
    instead = {
        "pytorch_model.bin": f"it has only pytorch_model.bin, {pickle}",
        "pytorch_model.bin.index.json": f"it has only pytorch_model.bin in parts, {pickle}",
        "model.onnx": "it is an ONNX graph, for onnxruntime. Use the folder that it was made of",
        "tf_model.h5": "it has only TensorFlow's tf_model.h5. Save the model as safetensors with transformers",
        "flax_model.msgpack": "it has only Flax's flax_model.msgpack. Save the model as safetensors with transformers",
    }
    problem = next((text for other, text in instead.items() if (folder / other).exists()), f"it has no {name}")
    raise CheckpointError(f"{folder}: {problem}.")
