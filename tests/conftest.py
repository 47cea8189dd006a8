"""What every test shares: one thread, no network, and a small corpus with shards and a recipe to go with it."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from pyarrow.fs import FileSystem, LocalFileSystem, copy_files

from bertsmith.config import override
from bertsmith.data import learn_tokenizer, prepare
from bertsmith.recipes import bert
from bertsmith.train import Recipe

# Several test processes share the cores; torch's threads would only wait for each other.
torch.set_num_threads(1)

# What is generated must not be refused because the machine is busy.
settings.register_profile("bertsmith", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bertsmith")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections leave this machine for no test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        local = self.family == socket.AF_UNIX or (isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1"))
        if not local:
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(socket.socket, "connect", guarded)


SENTENCES = (
    "The old mill stood by the river.",
    "Every morning the miller opened its green door.",
    "Water ran over the wheel and the stones began to turn.",
    "Farmers came with sacks of barley and of wheat.",
    "They paid him in bread, in eggs and sometimes in coin.",
    "At night the river was quiet and the wheel stood still.",
    "His daughter read to him from an old book of stars.",
    "She knew the name of each one that rose above the hill.",
)


def corpus_lines() -> Iterator[str]:
    """Forty documents of eight to fifteen sentences, each with words of its own."""
    for number in range(40):
        for place in range(8 + number % 8):
            yield SENTENCES[(number * 3 + place * 5) % len(SENTENCES)].replace("old", f"old{number % 7}")
        yield ""


BUCKET = "mill-bucket"


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileSystem]:
    """A server with S3's interface on this machine, with one empty bucket; the environment leads Arrow and LanceDB to it."""
    pytest.importorskip("moto.server", reason="no S3 on this machine: pip install moto flask flask-cors")
    log = tmp_path_factory.mktemp("store") / "log.txt"
    keys = {"AWS_ACCESS_KEY_ID": "mill", "AWS_SECRET_ACCESS_KEY": "wheel", "AWS_REGION": "us-east-1"}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with log.open("w", encoding="utf-8") as stream, subprocess.Popen(command, stdout=stream, stderr=stream) as server:
        try:
            while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text(encoding="utf-8"))):
                assert server.poll() is None, log.read_text(encoding="utf-8")
                time.sleep(0.02)
            with pytest.MonkeyPatch.context() as patch:
                for name, value in {**keys, "AWS_ENDPOINT_URL": found[0], "AWS_ALLOW_HTTP": "true"}.items():
                    patch.setenv(name, value)
                store, _ = FileSystem.from_uri(f"s3://{BUCKET}/?allow_bucket_creation=true")
                store.create_dir(BUCKET)
                yield store
        finally:
            server.kill()


@pytest.fixture
def to_bucket(object_store: FileSystem, request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """Copies a folder into the bucket, and says where it is."""

    def copy(folder: Path) -> str:
        place = f"{BUCKET}/{request.node.name}/{folder.name}"
        copy_files(str(folder), place, source_filesystem=LocalFileSystem(), destination_filesystem=object_store)
        return f"s3://{place}"

    return copy


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus in plain text."""
    path = tmp_path_factory.mktemp("corpus") / "mill.txt"
    path.write_text("\n".join(corpus_lines()), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def shard_folder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small corpus as shards, with a vocabulary of its own."""
    folder = tmp_path_factory.mktemp("shards") / "mill"
    prepare(corpus, learn_tokenizer(corpus, 150).tokenizer, folder, heldout=0.1)
    return folder


@pytest.fixture(scope="session")
def small_recipe() -> Recipe:
    """BERT's recipe shrunk to two stages that take a second: dropout and two lengths are in it."""
    recipe = replace(bert.tiny(), name="small", encoder=bert.encoder(12, 2, 2), precision="float32")
    return override(
        recipe,
        [
            "stages.0.steps=7",
            "stages.0.length=24",
            "stages.0.batch_size=6",
            "stages.0.schedule.warmup_steps=2",
            "stages.0.schedule.peak=0.01",
            "stages.1.steps=3",
            "stages.1.length=40",
            "stages.1.batch_size=3",
            "stages.1.schedule.peak=0.001",
        ],
    )
