"""The weights in a folder of transformers: one safetensors file, several with an index, or a pickle to be converted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from bertsmith.checkpoints.json_objects import read_object
from bertsmith.checkpoints.pytorch_bin import PickledTensors
from bertsmith.checkpoints.source import find_weights
from bertsmith.checkpoints.weights import FILE_NAME, Stored, read_header, read_tensor
from bertsmith.errors import CheckpointError

INDEX = f"{FILE_NAME}.index.json"
PICKLE = "pytorch_model.bin"
_PICKLE_INDEX = f"{PICKLE}.index.json"


@dataclass(frozen=True)
class Weights:
    """Weights that were looked at: `file` holds them, or lists the `parts` that do; `read` gives one by its name."""

    file: Path
    stored: Mapping[str, Stored]
    read: Callable[[str], Tensor]
    parts: tuple[Path, ...] = ()

    @property
    def is_one_safetensors_file(self) -> bool:
        """Whether `bertsmith.checkpoints.weights` reads them."""
        return self.file.name == FILE_NAME and not self.parts


def open_weights(folder: Path, *, pickled: bool) -> Weights:
    """Look at the weights in `folder`; with `pickled`, also at those of a pytorch_model.bin where there is nothing else.

    Raises:
        CheckpointError: there are none, or a file is missing, damaged or holds something else.
    """
    if (folder / FILE_NAME).is_file():
        return _safetensors(folder / FILE_NAME)
    if (folder / INDEX).is_file():
        return _joined(folder / INDEX, _safetensors)
    if pickled and (folder / PICKLE).is_file():
        return _pickle(folder / PICKLE)
    if pickled and (folder / _PICKLE_INDEX).is_file():
        return _joined(folder / _PICKLE_INDEX, _pickle)
    find_weights(folder, FILE_NAME)
    raise AssertionError(f"{folder}: weights came while they were looked for")


def _safetensors(file: Path) -> Weights:
    return Weights(file, read_header(file), lambda name: read_tensor(file, name))


def _pickle(file: Path) -> Weights:
    tensors = PickledTensors(file)
    return Weights(file, tensors.stored, tensors.read)


def _joined(index: Path, look: Callable[[Path], Weights]) -> Weights:
    """Weights in several files, of which `index` says which tensor lies where."""
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"{index}: expected a weight_map from each tensor to the file that holds it.")
    files = sorted(set(places.values()))
    for name in files:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise CheckpointError(
                f"{index}: names the file {name!r:.80}, which is not in the folder. Copy it again, whole."
            )
    parts = {name: look(index.parent / name) for name in files}
    for name, part in parts.items():
        listed = {tensor for tensor, place in places.items() if place == name}
        if listed != part.stored.keys():
            odd = sorted(listed ^ part.stored.keys())
            raise CheckpointError(
                f"{part.file}: does not hold what {index.name} says: {', '.join(odd[:8])}. Copy the folder again, whole."
            )
    stored = {tensor: found for part in parts.values() for tensor, found in part.stored.items()}
    return Weights(
        index, stored, lambda name: parts[places[name]].read(name), tuple(part.file for part in parts.values())
    )
