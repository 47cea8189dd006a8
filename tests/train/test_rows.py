"""Tensors in pieces: what one process wrote or several did is read alike, by any number."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bertsmith.errors import CheckpointError
from bertsmith.train.rows import RowFiles, own_rows, write_rows

TENSORS = {
    "matrix": torch.arange(35.0).reshape(7, 5),
    "vector": torch.arange(2.0),
    "count": torch.tensor(3.0),
}


def divided(folder: Path, pieces: int) -> None:
    """As FSDP divides: equal parts of the first dimension, the last ones smaller or empty."""
    for piece in range(pieces):
        own = {}
        for name, tensor in TENSORS.items():
            parts = [tensor] if tensor.ndim == 0 else tensor.chunk(pieces)
            if piece < len(parts):
                own[name] = parts[piece].contiguous()
        save_file(own, folder / f"model-{piece + 1:05d}-of-{pieces:05d}.safetensors")


@pytest.mark.parametrize("pieces", [1, 2, 4])
def test_any_rows_of_any_pieces(tmp_path: Path, pieces: int) -> None:
    if pieces == 1:
        write_rows(tmp_path, "model", TENSORS)
    else:
        divided(tmp_path, pieces)
    stored = RowFiles(tmp_path, "model")
    assert stored.shapes() == {name: tuple(tensor.shape) for name, tensor in TENSORS.items()}
    for name, tensor in TENSORS.items():
        assert torch.equal(stored.read(name), tensor)
    for first in range(8):
        for rows in range(8 - first):
            assert torch.equal(stored.read("matrix", first, rows), TENSORS["matrix"][first : first + rows])


def test_a_whole_tensor_is_written_once(tmp_path: Path) -> None:
    for piece in range(2):
        write_rows(tmp_path, "model", TENSORS, piece, 2)
    stored = RowFiles(tmp_path, "model")
    assert stored.shapes()["matrix"] == (7, 5)
    assert torch.equal(stored.read("count"), TENSORS["count"])
    assert own_rows(TENSORS["matrix"])[0] is TENSORS["matrix"]


def test_a_missing_piece_is_said(tmp_path: Path) -> None:
    divided(tmp_path, 4)
    (tmp_path / "model-00003-of-00004.safetensors").unlink()
    with pytest.raises(CheckpointError, match="3 are there"):
        RowFiles(tmp_path, "model")
