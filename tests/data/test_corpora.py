import gzip
import io
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertsmith.data.corpora import Document, read_documents
from bertsmith.errors import DataError, UsageError

TEXT = "Ein Satz.\nNoch einer: ähm.\n\n\n  \n二つ目。\r\n\nlast\n"
DOCUMENTS = [("Ein Satz.\nNoch einer: ähm.", 1), ("二つ目。", 6), ("last", 8)]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_a_blank_line_ends_a_document(tmp_path: Path, pack) -> None:
    ending = {bytes: "", gzip.compress: ".gz", lzma.compress: ".xz"}[pack]
    file = write(tmp_path / f"a.txt{ending}", pack(TEXT.encode("utf-8")))
    assert list(read_documents(file)) == [Document(text, str(file), line) for text, line in DOCUMENTS]


def test_one_document_per_file_and_folders_in_sorted_order(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "bee\n\nbee again")
    write(tmp_path / "a" / "z.txt", "zed\n")
    write(tmp_path / "empty.txt", "\n \n")
    write(tmp_path / ".hidden" / "x.txt", "not me")
    texts = [d.text for d in read_documents(tmp_path, format="file")]
    assert texts == ["zed", "bee\n\nbee again"]
    assert [d.text for d in read_documents([tmp_path])] == ["zed", "bee", "bee again"]


def test_json_lines(tmp_path: Path) -> None:
    lines = [{"text": "one\ntwo"}, {"text": None}, {"text": "drei \U0001f600", "id": 3}]
    file = write(tmp_path / "a.jsonl.gz", gzip.compress("\n\n".join(map(json.dumps, lines)).encode()))
    assert [(d.text, d.line) for d in read_documents(file)] == [("one\ntwo", 1), ("", 3), ("drei \U0001f600", 5)]


def test_parquet_is_read_in_row_order(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    texts = [f"text {i}" if i % 7 else None for i in range(3000)]
    pq.write_table(pa.table({"id": range(3000), "body": texts}), file, row_group_size=100)
    found = list(read_documents(file, field="body"))
    assert [d.text for d in found] == [t or "" for t in texts]
    assert found[41].line == 42


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode("utf-8")), encoding="utf-8"))
    assert [d.text for d in read_documents("-")] == [text for text, _ in DOCUMENTS]


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", b"\xef\xbb\xbfwords")
    assert [d.text for d in read_documents(file)] == ["words"]


def test_reading_is_lazy(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", b"first\n\nsecond\n\n" + b"\xff")
    documents = read_documents(file)
    assert next(documents).text == "first"


@pytest.mark.parametrize(
    ("name", "content", "format", "message"),
    [
        ("a.txt", b"\xef\xbb\xbfgood\nbad \xe9t\xe9\n", "auto", r"a\.txt, line 2, byte 12: not UTF-8.*0xe9.*iconv"),
        ("a.txt", "hé".encode("utf-16"), "auto", "line 1, byte 0: not UTF-8"),
        ("a.txt", b"\n \n", "auto", "There is no text in .*a.txt"),
        ("a.txt.gz", gzip.compress(TEXT.encode(), mtime=0)[:-12], "auto", "damaged or cut off"),
        ("a.txt.gz", b"plain text", "auto", "cannot be read"),
        ("a.txt.xz", lzma.compress(TEXT.encode())[:-12], "auto", "damaged or cut off"),
        ("a.jsonl", '{"text": "a"}\n{"txet": "b"}', "auto", "line 2: there is no field 'text'. Did you mean 'txet'"),
        ("a.jsonl", '{"text": 3}', "auto", "line 1: the field 'text' holds '3', which is not text"),
        ("a.jsonl", '["text"]', "auto", "line 1: expected a JSON object"),
        ("a.dat", '{"text": ', "jsonl", "line 1: not JSON"),
        (
            "a.jsonl",
            f'{{"text": "a"}}\n{{"text": "b", "id": {"9" * 5000}}}',
            "auto",
            r"a\.jsonl, line 2: not JSON .*digits",
        ),
        ("a.parquet", b"PAR1 not really", "auto", "not a readable Parquet file"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: str | bytes, format, message: str) -> None:
    file = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        list(read_documents(file, format=format))


def test_parquet_columns_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [1, 2], "body": ["a", "b"]}), file)
    with pytest.raises(DataError, match=r"no column 'boddy'. Did you mean 'body'"):
        list(read_documents(file, field="boddy"))
    with pytest.raises(DataError, match="column 'text' holds int64"):
        list(read_documents(file))


READING = """
import resource, sys
import pyarrow.parquet
from bertsmith.data import read_documents

def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

for file in sys.argv[1:]:
    before = megabytes()
    characters = sum(len(document.text) for document in read_documents(file))
    print(characters, megabytes() - before)
"""


def test_memory_does_not_grow_with_a_file(tmp_path: Path) -> None:
    texts = [f"{number} " + " ".join(f"w{number * k % 997}" for k in range(400)) for number in range(150)] * 200
    plain = "\n\n".join(texts).encode()
    files = {
        "a.txt": plain,
        "a.jsonl": "\n".join(json.dumps({"text": text}) for text in texts).encode(),
        # Members one after the other are what `cat` makes of two files; packing one of them is enough.
        "a.txt.gz": gzip.compress(plain[: len(plain) // 25] + b"\n\n", 1) * 25,
        "a.txt.xz": lzma.compress(plain[: len(plain) // 25] + b"\n\n", preset=0) * 25,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", use_dictionary=False, compression="none")
    names = [*files, "a.parquet"]
    done = subprocess.run(
        [sys.executable, "-c", READING, *(tmp_path / name for name in names)],
        capture_output=True,
        text=True,
        check=True,
    )
    for name, line in zip(names, done.stdout.splitlines(), strict=True):
        characters, grown = map(float, line.split())
        assert characters > 50e6
        assert grown < 30 if name == "a.parquet" else grown < 10, (name, grown)


def test_a_long_line_is_a_line(tmp_path: Path) -> None:
    long = "word " * 200_000
    file = write(tmp_path / "a.txt", f"short\n{long}\n\nafter")
    assert [(len(d.text), d.line) for d in read_documents(file)] == [(len(long) + 6, 1), (5, 4)]
    broken = write(tmp_path / "b.txt", b"short\n" + long.encode() + b"\xff" + long.encode())
    with pytest.raises(DataError, match=r"b\.txt, line 2, byte 1000006: not UTF-8"):
        list(read_documents(broken))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "words")
    file.chmod(0)
    with pytest.raises(DataError, match=r"a\.txt: cannot be read .*Permission denied"):
        list(read_documents(file))


def test_what_does_not_exist_is_refused_before_reading(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "words")
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match=r"missing\.txt: there is no such file"):
        read_documents([file, tmp_path / "missing.txt"])
    with pytest.raises(DataError, match="void: this folder has no text files"):
        read_documents(tmp_path / "void")
    with pytest.raises(DataError, match="at least one file"):
        read_documents([])
    with pytest.raises(UsageError, match=r"'textt' is not a text format. Did you mean 'text'"):
        read_documents(file, format="textt")  # pyright: ignore[reportArgumentType]
