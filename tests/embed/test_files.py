"""Files of texts to files of vectors: every format in and out, exact, in order, whole or absent, taken up again."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from bertsmith import LoadedModel
from bertsmith.checkpoints import Checkpoint, save_model
from bertsmith.data.workspace import Workspace
from bertsmith.embed import Embedder, EmbedOptions, Windows, embed_file, read_text_file, vector_records
from bertsmith.errors import CheckpointError, DataError, UsageError

TEXTS = ["a b c", "", "ab", "x y, z", "é", " ".join("abcdefghijklmnopqrst")]
ROWS = [{"id": number, "text": text, "note": None if number == 2 else "n\u00e9"} for number, text in enumerate(TEXTS)]


def csv_of(delimiter: str) -> str:
    mark = '"' if delimiter == "," else ""
    rows = [f"{r['id']}{delimiter}{mark}{r['text']}{mark}{delimiter}{r['note'] or ''}" for r in ROWS]
    return "\n".join([delimiter.join(ROWS[0]), *rows, ""])


FILES: dict[str, Callable[[], str]] = {
    "t.txt": lambda: "\n".join([*TEXTS, ""]),
    "t.csv": lambda: csv_of(","),
    "t.tsv": lambda: csv_of("\t"),
    "t.jsonl": lambda: "".join(json.dumps(row) + "\n" for row in ROWS),
    "t.json": lambda: json.dumps(ROWS),
}


def write(folder: Path, name: str) -> Path:
    if name == "t.parquet":
        schema = pa.schema([("id", pa.int16()), ("text", pa.string()), ("note", pa.large_string())])
        pq.write_table(pa.Table.from_pylist(ROWS, schema=schema), folder / name)
    else:
        (folder / name).write_text(FILES[name](), encoding="utf-8")
    return folder / name


def read(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def numbers(table: pa.Table) -> np.ndarray:
    return np.array(table.column("vector").to_pylist(), np.float32)


@pytest.mark.parametrize("name", [*FILES, "t.parquet"])
def test_every_format_of_texts(small: LoadedModel, tmp_path: Path, name: str) -> None:
    keep = () if name == "t.txt" else ("note", "id")
    written = embed_file(small.embedder, write(tmp_path, name), tmp_path / "v.parquet", keep=keep)
    assert written.numbers == (6, 1, 0, 1, 6) and written.size == 12
    table = read(tmp_path / "v.parquet")
    assert table.column_names == ["line", "text", *keep, "vector", "truncated", "windows"]
    assert table.column("text").to_pylist() == TEXTS
    assert table.column("line").to_pylist() == list(range(2, 8) if name[-3:] in ("csv", "tsv") else range(1, 7))
    assert numbers(table).tobytes() == small.embed(TEXTS).tobytes()
    assert table.column("truncated").to_pylist() == [0, 0, 0, 0, 0, 6] and set(table.column("windows").to_pylist()) == {
        1
    }
    if keep:
        ids = [row["id"] for row in ROWS]
        assert table.column("id").to_pylist() == (ids if name == "t.parquet" else [str(number) for number in ids])
        assert table.schema.field("id").type == (pa.int16() if name == "t.parquet" else pa.string())
        notes = [row["note"] for row in ROWS]
        assert [note or None for note in table.column("note").to_pylist()] == notes
        assert written.columns == "text = column 'text'"


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("ending", ["parquet", "arrow", "npy"])
def test_every_format_of_vectors(
    small: LoadedModel, tmp_path: Path, ending: str, precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertsmith.embed.pieces.CHUNK", 4)
    options = EmbedOptions(long=Windows(), dimensions=7, normalize=True)
    out = tmp_path / f"v.{ending}"
    embed_file(Embedder(small.checkpoint, options), write(tmp_path, "t.txt"), out, precision=precision)
    expected = np.concatenate([small.embed(TEXTS[:4], options), small.embed(TEXTS[4:], options)]).astype(precision)
    if ending == "npy":
        with out.open("rb") as file:
            found = np.lib.format.read_array(file, allow_pickle=False)
        assert found.dtype == precision
    else:
        table = read(out)
        assert table.schema.field("vector").type == pa.list_(pa.float16() if "16" in precision else pa.float32(), 7)
        found = np.array(table.column("vector").to_pylist(), precision)
        assert table.column("windows").to_pylist() == [1, 1, 1, 1, 1, 2]
    assert found.tobytes() == expected.tobytes()


def test_pairs_of_two_columns(small: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("n,first,second\n7,a b,c\n8,ab,d e\n", encoding="utf-8")
    given = {"fields": ("first", "3"), "keep": ("n",)}
    embed_file(small.embedder, tmp_path / "p.csv", tmp_path / "v.parquet", **given)
    table = read(tmp_path / "v.parquet")
    assert table.select(["text", "pair", "n"]).to_pylist() == [
        {"text": "a b", "pair": "c", "n": "7"},
        {"text": "ab", "pair": "d e", "n": "8"},
    ]
    assert numbers(table).tobytes() == small.embed([("a b", "c"), ("ab", "d e")]).tobytes()
    embed_file(small.embedder, tmp_path / "p.csv", tmp_path / "w.arrow", unit="word", **given)
    table = read(tmp_path / "w.arrow")
    assert table.column_names == ["line", "word", "start", "end", "part", "n", "vector"]
    assert table.column("word").to_pylist() == ["a", "b", "c", "ab", "d", "e"]
    assert table.column("part").to_pylist() == [0, 0, 1, 0, 1, 1]
    assert (table.column("n").to_pylist(), table.column("line").to_pylist()) == (
        ["7"] * 3 + ["8"] * 3,
        [2] * 3 + [3] * 3,
    )


@pytest.mark.parametrize("unit", ["token", "word"])
def test_tokens_and_words_have_rows_of_their_own(small: LoadedModel, tmp_path: Path, unit: Any) -> None:
    written = embed_file(small.embedder, write(tmp_path, "t.txt"), tmp_path / "v.parquet", unit=unit)
    made = small.token_vectors(TEXTS) if unit == "token" else small.word_vectors(TEXTS)
    table = read(tmp_path / "v.parquet")
    assert table.column(unit).to_pylist() == [piece for one in made for piece in one.pieces]
    assert (written.texts, written.truncated, written.vectors) == (6, 1, table.num_rows)
    assert numbers(table).tobytes() == np.concatenate([one.vectors for one in made]).tobytes()
    spans = zip(*(table.column(name).to_pylist() for name in ("line", "start", "end")), strict=True)
    if unit == "word":
        assert [TEXTS[line - 1][start:end] for line, start, end in spans] == table.column("word").to_pylist()


def test_folders_above_a_file_of_vectors_are_made(small: LoadedModel, tmp_path: Path) -> None:
    out = tmp_path / "no" / "such" / "v.parquet"
    assert embed_file(small.embedder, write(tmp_path, "t.txt"), out).texts == 6
    assert [p.name for p in out.parent.iterdir()] == ["v.parquet"]
    with pytest.raises(UsageError, match="already exists"):
        embed_file(small.embedder, tmp_path / "t.txt", out)


@pytest.mark.parametrize(
    ("out", "options", "problem"),
    [
        ("t.txt/v.parquet", {}, r"t\.txt: this is a file"),
        ("t.txt/deep/v.parquet", {}, r"t\.txt: this is a file"),
        ("x" * 300 + ".parquet", {}, r"x{300}\.parquet: cannot be written \(File name too long\)"),
        ("link", {}, "link: this already exists"),
        ("v.csv", {}, r"v\.csv: vectors are written as Parquet, Arrow or npy"),
        ("v.npy", {"unit": "token"}, "npy holds nothing but one vector for each text"),
        ("v.npy", {"keep": ("1",)}, "npy holds nothing but one vector for each text"),
        ("v.parquet", {"unit": "sentence"}, "unit 'sentence' is not known"),
        ("v.parquet", {"precision": "int8"}, "precision 'int8' is not known"),
        ("v.parquet", {"format": "conll"}, "'conll' is not a format of files of texts"),
        ("v.parquet", {"fields": ("a", "b", "c")}, "3 columns are given"),
    ],
)
def test_what_cannot_be_written(
    small: LoadedModel, tmp_path: Path, out: str, options: dict[str, Any], problem: str
) -> None:
    write(tmp_path, "t.txt")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UsageError, match=problem):
        embed_file(small.embedder, tmp_path / "t.txt", tmp_path / out, **options)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "t.txt"]


@pytest.mark.parametrize(
    ("name", "content", "options", "problem"),
    [
        ("t.txt", b"", {}, "there is no text in this file"),
        ("t.txt", b"a\ncaf\xe9\n", {}, "line 2.*not UTF-8"),
        ("t.txt", None, {}, "no such file"),
        ("t.jsonl", b'{"text": "a"}\n{"text": 3}\n', {}, r"line 2, column 'text': expected text \(str\), got int: 3"),
        ("t.jsonl", b'{"text": "\\ud83d"}\n', {}, "line 1, column 'text': character 0 .* half of a surrogate pair"),
        ("t.jsonl", b'{"text": "a"}\n{"txt": "b"}\n', {}, "line 2: there is no 'text'"),
        ("t.jsonl", b'{"text": "a"}\n', {"keep": ("di",)}, "there is no column 'di'"),
        ("t.csv", b"a,b\n1,2\n", {}, "not clear which columns hold the text"),
        ("t.csv", b"text,vector\n1,2\n", {"keep": ("vector",)}, "The column 'vector' cannot go along"),
    ],
)
def test_a_bad_file_leaves_nothing_behind(
    small: LoadedModel, tmp_path: Path, name: str, content: bytes | None, options: dict[str, Any], problem: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((DataError, UsageError), match=problem):
        embed_file(small.embedder, tmp_path / name, tmp_path / "v.parquet", **options)
    assert [p.name for p in tmp_path.iterdir()] == ([name] if content is not None else [])


def test_a_disk_that_fills_up_keeps_what_is_finished(
    small: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = write(tmp_path, "t.txt")
    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", full)
        with pytest.raises(CheckpointError, match=r"v\.parquet: the disk is full"):
            embed_file(small.embedder, file, tmp_path / "v.parquet")
    assert sorted(p.name[:16] for p in tmp_path.iterdir()) == [".v.parquet.work-", "t.txt"]
    written = embed_file(small.embedder, file, tmp_path / "v.parquet")
    assert written.notices == ("Went on from an earlier start: 1 pieces of text were finished.",)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.txt", "v.parquet"]


def test_float16_is_not_filled_with_infinity(made: Callable[..., Checkpoint], tmp_path: Path) -> None:
    checkpoint = made()
    last = checkpoint.model.encoder.blocks[-1]
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.mul_(1e6)
    file = write(tmp_path, "t.txt")
    with pytest.raises(UsageError, match="65,504, which float16 cannot hold"):
        embed_file(Embedder(checkpoint), file, tmp_path / "v.parquet", precision="float16")
    options = EmbedOptions(normalize=True)
    assert embed_file(Embedder(checkpoint, options), file, tmp_path / "v.parquet", precision="float16").texts == 6


class Stop(Exception):
    pass


@pytest.mark.parametrize("unit", ["text", "token"])
def test_an_interrupted_call_is_taken_up_and_ends_the_same(
    small: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: Any
) -> None:
    """Stopped at every piece, before and after it is there; each piece is made once."""
    monkeypatch.setattr("bertsmith.embed.pieces.CHUNK", 2)
    file, out = write(tmp_path, "t.csv"), tmp_path / "v.parquet"
    embed_file(small.embedder, file, tmp_path / "whole.parquet", keep=("id",), unit=unit)
    save, made = Workspace.save, list[str]()

    def stopping(self: Workspace[Any], name: str, done: Any) -> None:
        if name not in tried:
            tried.add(name)
            raise Stop
        save(self, name, done)
        made.append(name)
        raise Stop

    tried: set[str] = set()
    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "save", stopping)
        for _ in range(6):
            with pytest.raises(Stop):
                embed_file(small.embedder, file, out, keep=("id",), unit=unit)
            assert not out.exists()
    written = embed_file(small.embedder, file, out, keep=("id",), unit=unit)
    assert len(made) == len(set(made)) == 3
    assert written.notices == ("Went on from an earlier start: 3 pieces of text were finished.",)
    assert written.numbers[:4] == (6, 1, 0, 1)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_other_options_begin_anew(small: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, out = write(tmp_path, "t.txt"), tmp_path / "v.parquet"

    def full(*_: object) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", full)
        with pytest.raises(Stop):
            embed_file(small.embedder, file, out)
    written = embed_file(Embedder(small.checkpoint, EmbedOptions(normalize=True)), file, out)
    assert [notice[:42] for notice in written.notices] == ["The options, the model or the versions cha"]
    np.testing.assert_allclose(np.linalg.norm(numbers(read(out)), axis=1), 1, atol=1e-6)


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
import bertsmith
from bertsmith.data.workspace import Workspace
from bertsmith.embed import embed_file, pieces

torch.set_num_threads(1)
folder, save = Path(sys.argv[1]), Workspace.save
pieces.CHUNK = 2

def dying(self, name, done):
    save(self, name, done)
    if name.startswith("0000001"):
        os.kill(os.getpid(), signal.SIGKILL)

Workspace.save = dying
embed_file(bertsmith.load(folder / "model").embedder, folder / "t.csv", folder / "v.npy")
"""


def test_a_killed_process_is_followed_by_the_same_bytes(
    small: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / "model", small.checkpoint)
    file = write(tmp_path, "t.csv")
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    monkeypatch.setattr("bertsmith.embed.pieces.CHUNK", 2)
    written = embed_file(small.embedder, file, tmp_path / "v.npy")
    assert written.notices == ("Went on from an earlier start: 2 pieces of text were finished.",)
    embed_file(small.embedder, file, tmp_path / "whole.npy")
    assert (tmp_path / "v.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert not list(tmp_path.glob(".*"))


CLUSTER = """
import os, signal, sys, time
from pathlib import Path
import ray, torch
import bertsmith
from bertsmith.data.pools import actors_of
from bertsmith.embed import embed_file, pieces

class Slow:
    def __call__(self, number):
        time.sleep(0.1)
        return os.getpid()

torch.set_num_threads(1)
folder = Path(sys.argv[1])
pieces.CHUNK = 2
embedder = bertsmith.load(folder / "model").embedder
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
embed_file(embedder, folder / "t.csv", folder / "cluster.parquet", keep=("id",), cluster="ray")
embed_file(embedder, folder / "t.csv", folder / "here.parquet", keep=("id",))
done = []
for number, worker in actors_of("ray", 1).map(Slow(), range(12), print):
    done.append(number)
    if number == 1:
        os.kill(worker, signal.SIGKILL)
assert done == list(range(12))
"""


@pytest.mark.slow
def test_a_ray_cluster_makes_the_same_bytes(small: LoadedModel, tmp_path: Path) -> None:
    """And a worker that is killed is replaced; nothing is lost, and the order stays."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'bertsmith[cluster]'")
    save_model(tmp_path / "model", small.checkpoint)
    write(tmp_path, "t.csv")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    command = [sys.executable, "-c", CLUSTER, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cluster.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()
    assert not list(tmp_path.glob(".*parquet*"))


def test_records(small: LoadedModel, tmp_path: Path) -> None:
    read = read_text_file(write(tmp_path, "t.jsonl"), keep=("id",))
    found = list(vector_records(small.embedder, read.texts, names=tuple(read.carried.names), ahead=4))
    assert [(one["id"], one["text"], one["truncated"]) for one in found] == [
        (str(i), text, 6 * (i == 5)) for i, text in enumerate(TEXTS)
    ]
    np.testing.assert_allclose([one["vector"] for one in found], small.embed(TEXTS), atol=1e-6)
    texts = read_text_file(write(tmp_path, "t.txt")).texts
    (_, _, ab, *_) = vector_records(small.embedder, texts, unit="token")
    assert [(t["token"], t["start"], t["end"], len(t["vector"])) for t in ab["tokens"]] == [
        ("a", 0, 1, 12),
        ("##b", 1, 2, 12),
    ]
    with pytest.raises(UsageError, match="The column 'windows' cannot go along"):
        next(vector_records(small.embedder, [], names=("id", "windows")))
