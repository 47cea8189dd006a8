import json
import random
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from bertsmith.data import Corpus, Shards, prepare
from bertsmith.errors import CheckpointError, DataError, UsageError
from bertsmith.text import Tokenizer, Vocabulary

WORDS = ("the", "cat", "dog", "sat", "ran", ".", "!", "a", "b", "##s", "##t", "c")
TOKENIZER = Tokenizer(Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)))


def write(path: Path, *documents: str) -> Path:
    path.write_text("\n\n".join(documents), encoding="utf-8")
    return path


def texts(shards: Shards) -> list[list[str]]:
    """The documents as sentences, decoded."""
    return [
        [
            shards.tokenizer.decode(shards.tokens_between(document, sentence, sentence + 1).tolist())
            for sentence in range(len(shards.sentence_starts(document)) - 1)
        ]
        for document in range(shards.documents)
    ]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_sentences_and_paragraphs_become_sentences(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "The cat sat. The dog ran!\nThe cats ran", "A dog.")
    done = prepare(file, TOKENIZER, tmp_path / "shards", heldout=0)
    assert texts(Shards.load(tmp_path / "shards")) == [["the cat sat .", "the dog ran !", "the cats ran"], ["a dog ."]]
    assert (done.train_documents, done.heldout_documents, done.train_tokens) == (2, 0, 15)


def test_what_was_met_is_counted(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "the cats sat\n\x00\x01", "\x00", "the zebra", "bat\nact")
    done = prepare(file, TOKENIZER, tmp_path / "shards", heldout=0)
    counts = done.counts
    assert (counts.documents, counts.empty_documents) == (3, 1)
    assert (counts.sentences, counts.empty_sentences) == (4, 2)
    assert counts.single_sentence_documents == 2
    # the cat ##s sat | the [UNK] | [UNK] | a [..]: "bat" and "act" cannot be spelled either
    assert (counts.tokens, counts.words, counts.unknown_words, counts.longest_sentence) == (8, 7, 3, 4)
    statistics = Shards.load(tmp_path / "shards").manifest["statistics"]
    assert statistics["fertility"] == pytest.approx(8 / 7, abs=1e-6)
    assert statistics["unknown_rate"] == pytest.approx(3 / 7, abs=1e-6)
    assert statistics["sentences_per_document"] == pytest.approx(4 / 3, abs=1e-4)
    assert statistics["empty_documents"] == 1


def test_the_manifest_tells_where_it_comes_from(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "the cat")
    prepare(file, TOKENIZER, tmp_path / "shards", language="de", heldout=0)
    manifest = json.loads((tmp_path / "shards" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["tokenizer_sha256"] == TOKENIZER.sha256
    assert manifest["vocab_size"] == 17
    assert manifest["options"] == {
        "language": "de",
        "format": "auto",
        "field": "text",
        "heldout": 0,
        "duplicates": "exact",
        "leaks": "report",
    }
    (source,) = manifest["sources"]
    assert source["path"] == file.as_posix()
    assert source["bytes"] == 7
    assert source["sha256"] == sha256(b"the cat").hexdigest()


def test_the_result_is_the_same_for_any_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertsmith.data.pieces._CHARACTERS", 200)  # so that chunks are many and overtake
    file = write(tmp_path / "a.txt", *("The cat sat. " * (1 + 37 * n % 131) for n in range(120)))
    for processes in (1, 2):
        prepare(file, TOKENIZER, tmp_path / f"shards{processes}", processes=processes, shard_tokens=500)
    one, two = everything(tmp_path / "shards1"), everything(tmp_path / "shards2")
    assert one.keys() == two.keys()
    assert len([name for name in one if name.endswith("tokens.bin")]) > 10
    assert one == two


@pytest.mark.parametrize(
    ("documents", "heldout", "apart"),
    [
        (10, 0.2, [4, 9]),  # every fifth
        (14, 0.2, [4, 9]),
        (5, 0.2, [4]),
        (4, 0.2, [3]),  # fewer than five: the last
        (2, 0.02, [1]),
        (4, 0.5, [1, 3]),
        (4, 0.0, []),
    ],
)
def test_which_documents_are_held_out(tmp_path: Path, documents: int, heldout: float, apart: list[int]) -> None:
    def name(number: int) -> str:
        return "a " * number + "b"

    file = write(tmp_path / "a.txt", *map(name, range(documents)))
    done = prepare(file, TOKENIZER, tmp_path / "shards", heldout=heldout)
    train = texts(Shards.load(tmp_path / "shards"))
    held = texts(Shards.load(tmp_path / "shards", "heldout")) if apart else []
    assert held == [[name(number)] for number in apart]
    assert train == [[name(number)] for number in range(documents) if number not in apart]
    assert (done.train_documents, done.heldout_documents) == (len(train), len(held))


def test_a_single_document_gives_its_last_paragraphs(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "\n".join(["The cat sat. The dog ran!"] * 9 + ["A cat. A dog."]))
    prepare(file, TOKENIZER, tmp_path / "shards", heldout=0.1)
    assert texts(Shards.load(tmp_path / "shards", "heldout")) == [["a cat .", "a dog ."]]
    assert texts(Shards.load(tmp_path / "shards")) == [["the cat sat .", "the dog ran !"] * 9]


def test_a_single_paragraph_gives_its_last_sentences_and_a_single_sentence_none(tmp_path: Path) -> None:
    prepare(write(tmp_path / "a.txt", "The cat sat. The dog ran! A cat."), TOKENIZER, tmp_path / "one", heldout=0.02)
    assert texts(Shards.load(tmp_path / "one", "heldout")) == [["a cat ."]]
    done = prepare(write(tmp_path / "b.txt", "The cat"), TOKENIZER, tmp_path / "two", heldout=0.02)
    assert (done.train_documents, done.heldout_documents) == (1, 0)


def test_other_formats_are_told_by_a_corpus(tmp_path: Path) -> None:
    file = tmp_path / "a.data"
    file.write_text('{"body": "the cat"}\n{"body": ""}\n{"body": "a dog\\nran"}\n', encoding="utf-8")
    prepare(Corpus(file, format="jsonl", field="body"), TOKENIZER, tmp_path / "shards", heldout=0)
    shards = Shards.load(tmp_path / "shards")
    assert texts(shards) == [["the cat"], ["a dog", "ran"]]
    assert shards.manifest["options"]["field"] == "body"
    assert shards.manifest["statistics"]["empty_documents"] == 1


def test_progress_is_told(tmp_path: Path) -> None:
    heard: list[tuple[str, int, int | None]] = []
    file = write(tmp_path / "a.txt", "the cat", "a dog")
    prepare(file, TOKENIZER, tmp_path / "shards", heldout=0, progress=lambda *event: heard.append(event))
    assert heard[-1] == ("writing documents", 2, 2)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"the cat\n\n\xff", "line 3, byte 9: not UTF-8"),
        (b"\n", "There is no text in"),
        (b"\x00", "has no token"),
    ],
)
def test_bad_text_leaves_nothing_behind(tmp_path: Path, processes: int, content: bytes, message: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        prepare(tmp_path / "a.txt", TOKENIZER, tmp_path / "shards", processes=processes)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


MEMORY = """
import resource, sys
from pathlib import Path
from bertsmith.data import pieces, prepare
from bertsmith.text import Tokenizer

pieces._CHARACTERS = 1 << 18
folder = Path(sys.argv[1])
tokenizer = Tokenizer.load(folder / "vocabulary")
for name in ("small", "large"):
    prepare(folder / f"{name}.txt", tokenizer, folder / name, duplicates="near", shard_tokens=1 << 20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    rng = random.Random(4)
    TOKENIZER.save(tmp_path / "vocabulary")
    for name, documents in (("small", 1_000), ("large", 40_000)):
        with (tmp_path / f"{name}.txt").open("w", encoding="utf-8") as file:
            for _ in range(documents):
                file.write(" ".join(rng.choices(WORDS[:8], k=250)) + "\n\n")
    assert (tmp_path / "large.txt").stat().st_size > 25e6
    script = [sys.executable, "-c", MEMORY, tmp_path]
    small, large = map(float, subprocess.run(script, capture_output=True, text=True, check=True).stdout.split())
    # Per document: 128 signature numbers are mapped from disk, some 100 bytes are held.
    assert large - small < 8 + 40_000 * 100 / 1e6


def test_half_a_surrogate_pair_is_named_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "the cat"}\n{"text": "\\ud83d"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: .*surrogate"):
        prepare(file, TOKENIZER, tmp_path / "shards")


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "the cat", "a dog")
    for options, message in [
        ({"heldout": 0.6}, "expected a share from 0 to 0.5"),
        ({"heldout": -0.1}, "expected a share from 0 to 0.5"),
        ({"processes": 0}, "at least one process"),
        ({"duplicates": "nearly"}, "duplicates 'nearly' is not known. Did you mean 'near'"),
        ({"leaks": "dropp"}, "leaks 'dropp' is not known. Did you mean 'drop'"),
        ({"language": "eng"}, "language 'eng' is not known. Nearest: .*en"),
        ({"cluster": "slurm"}, "cluster 'slurm': expected ray"),
        ({"shard_tokens": 0}, "must be at least 1"),
    ]:
        with pytest.raises(UsageError, match=message):
            prepare(file, TOKENIZER, tmp_path / "shards", **options)
    prepare(file, TOKENIZER, tmp_path / "shards")
    with pytest.raises(UsageError, match="already exists"):
        prepare(file, TOKENIZER, tmp_path / "shards")
    with pytest.raises(CheckpointError, match="no such folder"):
        Shards.load(tmp_path / "elsewhere")
