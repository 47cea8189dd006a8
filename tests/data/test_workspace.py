"""A workspace belongs to one process, keeps what is finished, and gives back what was kept."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bertsmith.data.workspace import Workspace, sweep
from bertsmith.errors import CheckpointError, UsageError


@dataclass(frozen=True)
class Piece:
    numbers: np.ndarray
    names: np.ndarray


PIECE = Piece(np.arange(7, dtype=np.int16), np.array(["a", "bcd"]))


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    first = Workspace(tmp_path / "shards", {"a": 1}, Piece)
    with pytest.raises(UsageError, match="another process is making this already"):
        Workspace(tmp_path / "shards", {"a": 1}, Piece)
    other = Workspace(tmp_path / "shards", {"a": 2}, Piece)  # other options: it leaves the living one alone
    assert first.folder.is_dir()
    other.close()
    first.close()
    assert not list(tmp_path.iterdir())


def test_what_is_kept_is_found_again(tmp_path: Path) -> None:
    work = Workspace(tmp_path / "out", {"a": 1}, Piece)
    work.save("0-x", PIECE)
    (work.folder / "1-y.part").write_bytes(b"half")
    work.close()
    again = Workspace(tmp_path / "out", {"a": 1}, Piece)
    assert "0-x" in again and "1-y" not in again and again.finished == 1
    assert [file.name for file in again.folder.iterdir()] == ["0-x.npz"]
    found = again.load("0-x")
    assert found.numbers.dtype == np.int16 and found.numbers.tolist() == list(range(7))
    assert found.names.tolist() == ["a", "bcd"]
    assert again.load("0-x", "names").numbers.size == 0
    again.keep = False
    again.close()
    assert not list(tmp_path.iterdir())


def test_a_damaged_piece_is_removed_and_said(tmp_path: Path) -> None:
    work = Workspace(tmp_path / "out", {}, Piece)
    work.save("0-x", PIECE)
    file = work.folder / "0-x.npz"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match=r"0-x\.npz: this finished piece of text was damaged"):
        work.load("0-x")
    assert not file.exists()
    work.close()


def test_pieces_of_other_options_are_swept(tmp_path: Path) -> None:
    work = Workspace(tmp_path / "out", {"a": 1}, Piece)
    work.save("0-x", PIECE)
    assert not sweep(tmp_path / "out")  # it is at work
    work.close()
    other = Workspace(tmp_path / "out", {"a": 2}, Piece)
    assert other.begun_anew and list(tmp_path.iterdir()) == [other.folder]
    other.close()
