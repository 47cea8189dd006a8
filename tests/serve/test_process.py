"""`bertsmith serve` as a process: what it costs, what it says, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

import bertsmith
from bertsmith.cli import main
from bertsmith.embed import BFloat16, Embedder, EmbedOptions
from bertsmith.errors import UsageError
from bertsmith.serve import ServeOptions
from bertsmith.serve.logs import WAITING, JsonLog
from bertsmith.serve.options import read_keys

KEY = "k3y-of-the-house"
HEAD = (
    b"POST /embed HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nauthorization: Bearer "
    + KEY.encode()
)


class Process:
    """A server, what it wrote, and a client with its key."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "bertsmith", "serve", "--model", str(folder), "--port", "0", *options]
        environment = os.environ | {"BERTSMITH_API_KEY": KEY, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.said: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if '"listening"' in line:
                break
        self.port = json.loads(self.said[-1])["port"]
        self._reader = threading.Thread(target=lambda: self.said.extend(self.process.stderr or ()), daemon=True)
        self._reader.start()
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"authorization": f"Bearer {KEY}"}, timeout=30
        )

    def memory(self) -> float:
        """Megabytes."""
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.settimeout(10)
        return connection

    def end(self) -> int:
        """The exit code."""
        code = self.process.wait(30)
        self._reader.join(5)
        self.client.close()
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code


@pytest.fixture
def start(folders: dict[str, Path]) -> Iterator[Callable[..., Process]]:
    begun: list[Process] = []

    def begin(*options: str) -> Process:
        begun.append(Process(folders["plain"], *options))
        return begun[-1]

    yield begin
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
            one.end()


def refused_at_once(server: Process, size: int, *, chunked: bool) -> tuple[bytes, float]:
    """The answer to a body of so many bytes, and the seconds until it was there."""
    with server.connect() as connection:
        frame = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % size
        started = time.monotonic()
        connection.sendall(HEAD + b"\r\n" + frame + b"\r\n\r\n")
        part = b"%x\r\n%s\r\n" % (100_000, b"x" * 100_000) if chunked else b"x" * 100_000
        answer = b""

        def send() -> None:
            try:
                for _ in range(size // 100_000):
                    connection.sendall(part)
            except OSError:
                pass

        sender = threading.Thread(target=send)
        sender.start()
        try:
            answer = connection.recv(4096)
        except ConnectionError:  # it was cut while we were still sending
            answer = b"HTTP/1.1 413"
        seconds = time.monotonic() - started
        sender.join(20)
        return answer, seconds


def test_vectors_in_another_lane(start: Callable[..., Process], folders: dict[str, Path]) -> None:
    server, model = start("--lane", "bfloat16"), bertsmith.load(folders["plain"])
    lane = Embedder(model.checkpoint, EmbedOptions(lane=BFloat16())).lane  # float32, if the processor has no units
    assert server.client.get("/info").json()["model_dtype"] == lane.kind
    (found,) = server.client.post("/embed", json={"inputs": "a cat"}).json()
    (exact,) = model.embed(["a cat"])
    assert found == pytest.approx(exact / np.linalg.norm(exact), abs=0.03)


@pytest.mark.slow
def test_large_bodies_cost_nothing_and_sigterm_ends_it(start: Callable[..., Process]) -> None:
    server = start("--drain", "0.5", "--grace", "20")
    assert server.client.post("/embed", json={"inputs": "a cat"}).status_code == 200
    before, times = server.memory(), []
    for size, chunked in ((10_000_000, False), (200_000_000, False), (200_000_000, True)):
        answer, seconds = refused_at_once(server, size, chunked=chunked)
        assert answer.startswith(b"HTTP/1.1 413")
        times.append(seconds)
    many = json.dumps({"inputs": ["a"] * 1_000_000}).encode()
    assert server.client.post("/embed", content=many, headers={"content-type": "application/json"}).status_code == 413
    assert server.memory() - before < 20
    assert min(times) < 0.3, times  # 0.01 where nobody else uses these processors

    # Now the end: a large request is under way, a client is slow with its body, others come and go.
    statuses: list[int] = []
    large = threading.Thread(
        target=lambda: statuses.append(server.client.post("/embed", json={"inputs": ["the cat sat"] * 300}).status_code)
    )
    large.start()
    slow = server.connect()
    slow.sendall(HEAD + b"\r\ncontent-length: 50\r\n\r\n{")
    time.sleep(0.1)
    started = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    assert server.client.get("/ready").status_code == 503
    assert server.client.get("/live").status_code == 200
    assert server.client.post("/embed", json={"inputs": "a dog"}).status_code == 200  # while it drains
    assert server.end() == 0
    assert time.monotonic() - started < 0.5 + 20 + 4
    large.join(10)
    assert statuses == [200]
    slow.close()
    said = "".join(server.said)
    assert KEY not in said
    assert "a dog" not in said
    assert all(set(json.loads(line)) >= {"time", "event"} for line in server.said if line.startswith("{"))


def test_a_signal_while_the_model_loads(folders: dict[str, Path]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bertsmith", "serve", "--model", str(folders["plain"]), "--port", "0"],
        stderr=subprocess.PIPE,
    )
    time.sleep(2.0)
    process.terminate()
    assert process.wait(20) in (0, -signal.SIGTERM)
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.7.1", "example.org", ""])
def test_beyond_this_machine_only_with_a_key(host: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.delenv("BERTSMITH_API_KEY", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--host", host])
    assert ended.value.code == 2
    assert "BERTSMITH_API_KEY" in capsys.readouterr().err
    assert ServeOptions(host=host, keys=("k",)).keys == ("k",)
    assert ServeOptions(host=host, open_to_all=True).open_to_all


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.4.5", "::1", "localhost"])
def test_on_this_machine_without(host: str) -> None:
    assert ServeOptions(host=host).is_local


def test_files_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("one\n\n two \n", encoding="utf-8")
    assert read_keys(path) == ("one", "two")
    for bad in ("\n", "with space", "schlüssel"):
        path.write_text(bad, encoding="utf-8")
        with pytest.raises(UsageError) as refused:
            read_keys(path)
        assert bad.strip() not in str(refused.value) or not bad.strip()
    with pytest.raises(UsageError, match="cannot be read"):
        read_keys(tmp_path / "none")


def test_a_port_that_is_taken(folders: dict[str, Path], capsys: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit) as ended:
        main(["serve", "--model", str(folders["plain"]), "--port", str(taken.getsockname()[1])])
    assert ended.value.code == 2
    assert "--port" in capsys.readouterr().err


def test_a_log_that_nobody_reads_holds_nobody_up() -> None:
    """A pipe takes 64 kB; then its writer waits, and only that."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        log = JsonLog(stream)
        for number in range(WAITING + 3000):
            log("request", number=number, padding="x" * 40)
        assert log._lost > 0
        taken = os.fdopen(read)
        while log._lines.qsize() > WAITING - 2000:
            taken.readline()
        log("request", number=-1)
        log._lines.put_nowait(None)
        lines = []
        while not lines or lines[-1]["number"] != -1:
            lines.append(json.loads(taken.readline()))
        assert lines[-1]["lines_lost"] > 0
        taken.close()
