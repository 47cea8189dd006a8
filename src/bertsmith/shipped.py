"""The models that come with the package, by their names: `bertsmith.load("small-english")`."""

from pathlib import Path

from bertsmith.errors import CheckpointError

DEFAULT = "small-english"
"""The model that the command line uses where none is given."""

SHIPPED = {DEFAULT: "English prose, uncased, 4 layers of 256"}
"""What there is, and what it is; a name may be here before its weights are."""

_FOLDER = Path(__file__).parent / "shipped_models"


def shipped_models() -> dict[str, Path]:
    """The folders of the models whose weights are in this installation, by name."""
    folders = {name: _FOLDER / name for name in SHIPPED}
    return {name: folder for name, folder in folders.items() if (folder / "model.safetensors").is_file()}


def resolve(path: Path) -> Path:
    """`path` itself if there is such a folder, else the folder of the shipped model that it names.

    Raises:
        CheckpointError: the model's weights are not in this installation.
    """
    if path.exists() or str(path) not in SHIPPED:
        return path
    if str(path) not in shipped_models():
        raise CheckpointError(
            f"{path}: this is the name of a model that comes with bertsmith, but its weights are not in this installation "
            f"({_FOLDER / path}). Give the folder of another model with --model."
        )
    return _FOLDER / path
