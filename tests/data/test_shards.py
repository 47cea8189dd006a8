import json
import shutil
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest

from bertsmith.data import Shards, ShardWriter, prepare
from bertsmith.errors import CheckpointError, UsageError
from bertsmith.folders import publish
from bertsmith.text import Tokenizer, Vocabulary

DOCUMENTS = [[3, 1, 4], [1], [5, 9, 2, 6], [5, 3], [5]]
TOTAL = sum(map(sum, DOCUMENTS))


@pytest.mark.parametrize("shard_tokens", [1, 10, 1000])
def test_documents_and_sentences_are_found_again(make_shards, shard_tokens: int) -> None:
    shards = make_shards(DOCUMENTS, shard_tokens=shard_tokens)
    names = shards.manifest["splits"]["train"]["shards"]
    assert len(names) == {1: 5, 10: 2, 1000: 1}[shard_tokens]  # of 10: 8 + 1 + 22 and 8 + 5
    assert (shards.documents, shards.sentences, shards.tokens) == (5, 11, TOTAL)
    assert shards.document_bounds.tolist() == list(accumulate(map(len, DOCUMENTS), initial=0))
    lengths = [length for document in DOCUMENTS for length in document]
    assert shards.sentence_bounds.tolist() == list(accumulate(lengths, initial=0))
    number = 5  # the id of the first token
    for document, sentences in enumerate(DOCUMENTS):
        assert shards.sentence_starts(document).tolist() == list(accumulate(sentences, initial=0))
        for sentence, length in enumerate(sentences):
            assert shards.tokens_between(document, sentence, sentence + 1).tolist() == [*range(number, number + length)]
            number += length
        whole = shards.tokens_between(document, 0, len(sentences))
        assert whole.tolist() == list(range(number - sum(sentences), number))
    assert shards.token_counts().tolist() == [0] * 5 + [1] * TOTAL


def test_tokens_are_views_of_the_file(make_shards) -> None:
    view = make_shards(DOCUMENTS).tokens_between(2, 0, 4)
    assert view.dtype == np.uint16
    assert not view.flags.owndata
    assert not view.flags.writeable


def test_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    for size, token_type in ((65_536, np.uint16), (65_537, np.uint32)):
        tokens = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"t{i}" for i in range(size - 5)))
        tokenizer = Tokenizer(Vocabulary(tokens))
        (tmp_path / "text.txt").write_text(f"t{size - 6} t0", encoding="utf-8")
        prepare(tmp_path / "text.txt", tokenizer, tmp_path / f"shards-{size}", heldout=0)
        view = Shards.load(tmp_path / f"shards-{size}").tokens_between(0, 0, 1)
        assert view.dtype == token_type
        assert view.tolist() == [size - 1, 5]


def test_the_hash_stands_for_the_content(make_shards) -> None:
    one, same, other = make_shards(DOCUMENTS), make_shards(DOCUMENTS), make_shards([*DOCUMENTS, [2]])
    assert one.sha256 == same.sha256
    # The source file is listed in the manifest, so other text means another hash.
    assert one.sha256 != other.sha256


def test_a_split_without_documents_is_refused(make_shards) -> None:
    shards = make_shards(DOCUMENTS)
    with pytest.raises(UsageError, match="no heldout documents in this folder, only train"):
        Shards.load(shards.path, "heldout")


def damage(file: Path, kind: str) -> None:
    content = bytearray(file.read_bytes())
    if kind == "bit":
        content[len(content) // 2] ^= 1
    elif kind == "truncated":
        del content[-1]
    elif kind == "empty":
        content.clear()
    elif kind == "lfs":
        content[:] = b"version https://git-lfs.github.com/spec/v1\n"
    file.write_bytes(content)


@pytest.mark.parametrize("kind", ["bit", "truncated", "empty", "lfs", "missing"])
def test_every_damaged_file_is_named(make_shards, kind: str) -> None:
    shards = make_shards(DOCUMENTS, shard_tokens=10)
    files = sorted(shards.path.rglob("*.bin"))
    assert len(files) == 6
    for file in [*files, shards.path / "manifest.json", shards.path / "tokenizer" / "vocab.txt"]:
        good = file.read_bytes()
        file.unlink() if kind == "missing" else damage(file, kind)
        with pytest.raises(CheckpointError, match=f"{file.name}: (expected|this file is missing)"):
            Shards.load(shards.path)
        file.write_bytes(good)
    Shards.load(shards.path)


def test_swapped_shards_are_named(make_shards) -> None:
    path = make_shards([[4], [4], [4]], shard_tokens=1).path
    one, two = path / "train-00000.tokens.bin", path / "train-00001.tokens.bin"
    spare = path / "spare"
    one.rename(spare)
    two.rename(one)
    spare.rename(two)
    Shards.load(path, thorough=False)  # sizes alone cannot tell
    with pytest.raises(CheckpointError, match=r"train-00000\.tokens\.bin: expected SHA-256"):
        Shards.load(path)


def republish(path: Path, change) -> Path:
    """A folder with something changed and an integrity file that agrees: damage that only the loader can notice."""
    with publish(path.parent / "changed", replace=True) as folder:
        shutil.copytree(path, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("integrity.json"))
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        change(folder, manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return path.parent / "changed"


def test_what_does_not_fit_together_is_refused(make_shards) -> None:
    path = make_shards(DOCUMENTS).path

    def other_version(folder: Path, manifest: dict) -> None:
        manifest["version"] = 2

    def other_tokenizer(folder: Path, manifest: dict) -> None:
        manifest["tokenizer_sha256"] = "00"

    def other_count(folder: Path, manifest: dict) -> None:
        manifest["splits"]["train"]["tokens"] += 1

    def fewer_tokens(folder: Path, manifest: dict) -> None:
        file = folder / "train-00000.tokens.bin"
        file.write_bytes(file.read_bytes()[:-2])

    for change, message in [
        (other_version, "expected bertsmith-shards version 1, found bertsmith-shards version 2"),
        (other_tokenizer, "prepared with tokenizer 00, the folder holds"),
        (other_count, "lists .* and the shards hold"),
        (fewer_tokens, "do not fit each other"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            Shards.load(republish(path, change))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with publish(tmp_path / "model") as folder:
        (folder / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match="not the manifest of prepared text"):
        Shards.load(tmp_path / "model")


def test_the_writer_refuses_what_is_no_document(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "train", 2, 100)
    for lengths in ([], [3], [2, 0], [1, 2]):
        with pytest.raises(ValueError, match="a document has sentences"):
            writer.add(np.arange(2), np.array(lengths, np.int64))


@pytest.mark.parametrize("documents", [1, 3, 99])
def test_the_head_is_the_first_documents(make_shards, documents: int) -> None:
    whole = make_shards(DOCUMENTS, shard_tokens=1000)
    few, kept = whole.head(documents), DOCUMENTS[:documents]
    assert (few.documents, few.sentences, few.tokens) == (len(kept), sum(map(len, kept)), sum(map(sum, kept)))
    assert few.document_bounds.tolist() == whole.document_bounds[: few.documents + 1].tolist()
    assert few.token_slice(0, few.tokens).tolist() == whole.token_slice(0, few.tokens).tolist()
    assert make_shards(DOCUMENTS, shard_tokens=10).head(99).documents == 3, "no more than the first shard has"
