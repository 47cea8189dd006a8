"""An index in a bucket is the index that was copied there."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow.fs import FileSystem

from bertsmith.errors import CheckpointError, UsageError
from bertsmith.search import Description, Entry, Index, Place, described, seal, writing

ToBucket = Callable[[Path], str]


def test_a_bucket_is_searched_as_a_folder(
    mill: Path, description: Description, vectors: Callable[..., np.ndarray], to_bucket: ToBucket
) -> None:
    with writing(mill, description) as writer:
        writer.optimize(approximate_from=20)
    place = to_bucket(mill)
    here, there = Index(mill), Index(f"{place}/")
    there.verify()
    assert there.description == here.description == described(place)
    assert len(there) == 37 and there.is_approximate and there.recall(5, queries=5) == here.recall(5, queries=5)
    searches: tuple[dict[str, Any], ...] = (
        {},
        {"exact": True},
        {"where": "year > 1910", "mode": "hybrid"},
        {"mode": "text", "k": 3},
    )
    for more in searches:
        assert there.search(vectors(5)[0], "number31", **more) == here.search(vectors(5)[0], "number31", **more)
    assert there.get(["t'003"]) == here.get(["t'003"])
    assert dict(there.texts()) == dict(here.texts())


def test_a_newer_copy_is_seen_when_it_is_opened_again(
    mill: Path,
    description: Description,
    entry: Callable[..., Entry],
    vectors: Callable[..., np.ndarray],
    to_bucket: ToBucket,
) -> None:
    """Half of it too: the table is there, and the seal is not yet."""
    before = Index(to_bucket(mill))
    with writing(mill, description) as writer:
        writer.add([entry(50)], vectors(50))
        writer.optimize()
    sealed = (mill / seal.SEAL).read_bytes()
    (mill / seal.SEAL).unlink()
    place = to_bucket(mill)
    assert len(Index(place)) == len(before) == 37
    (mill / seal.SEAL).write_bytes(sealed)
    assert len(Index(to_bucket(mill))) == 38
    assert before.search(vectors(3)[0], k=1)[0].id == "t'003"


def test_what_is_missing_or_damaged_in_a_bucket_is_named(
    mill: Path, to_bucket: ToBucket, object_store: FileSystem
) -> None:
    place = to_bucket(mill)
    names = list(seal.read_seal(Place(place)).files)
    assert len(names) > 8
    for name in names:
        file = f"{place}/{seal.TABLE}/{name}"
        key = file.removeprefix("s3://")
        with object_store.open_input_stream(key) as stream:
            whole = stream.read()
        object_store.delete_file(key)
        with pytest.raises(CheckpointError, match=f"^{file}: this file of the index is missing"):
            Index(place)
        for content, message in (
            (whole[:-1], "damaged: it has "),
            (bytes([*whole[:-1], whole[-1] ^ 1]), "damaged: its content is not what was written"),
        ):
            with object_store.open_output_stream(key) as stream:
                stream.write(content)
            with pytest.raises(CheckpointError, match=f"^{file}: {message}"):
                Index(place).verify()
        with object_store.open_output_stream(key) as stream:
            stream.write(whole)
    Index(place).verify()
    key = f"{place}/{seal.SEAL}"
    with object_store.open_output_stream(key.removeprefix("s3://")) as stream:
        stream.write(b"{")
    with pytest.raises(CheckpointError, match=f"^{key}: damaged"):
        Index(place)


def test_a_bucket_is_not_written(mill: Path, description: Description, to_bucket: ToBucket) -> None:
    for place in (to_bucket(mill), "s3://mill-bucket/new"):
        with (
            pytest.raises(UsageError, match=f"^{place}: an index in a bucket is only read"),
            writing(place, description),
        ):
            pass


def test_buckets_without_an_index(object_store: FileSystem) -> None:
    for place in ("s3://mill-bucket/nothing", "s3://no-such-bucket/index"):
        assert described(place) is None
        with pytest.raises(UsageError, match=f"^{place}: there is no index here"):
            Index(place)


@pytest.mark.parametrize("place", ["gs://bucket/index", "https://example.com/index", "S3://bucket/index"])
def test_places_of_other_kinds(place: str) -> None:
    with pytest.raises(UsageError, match=f"^{place}: an index lies in a folder, or at s3://BUCKET/NAME"):
        Index(place)


def test_a_url_that_is_none() -> None:
    with pytest.raises(CheckpointError, match=r"^s3://a bucket/index: cannot be read .*Cannot parse"):
        Index("s3://a bucket/index")


def test_a_folder_by_any_name(mill: Path, vectors: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mill.parent)
    shutil.copytree(mill, "a name with spaces, 100%")
    Path("link").symlink_to(mill)
    for name in (mill.name, f"./{mill.name}/", Path(mill.name), "a name with spaces, 100%", "link"):
        index = Index(name)
        index.verify()
        assert index.search(vectors(3)[0], k=1)[0].id == "t'003"
    monkeypatch.chdir(mill)
    assert len(Index(".")) == 37
