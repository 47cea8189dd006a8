"""A server under load: what it does when far too much is asked of it, and whether its memory stays as it is.

    python benchmarks/measure_serving.py flood [--model M] [--seconds 20] [--h2load] [--json]
    python benchmarks/measure_serving.py soak  [--model M] [--requests 100000] [--json]

flood: the peak is what 16 clients reach that ask again as soon as they have an answer. Then requests arrive at random times
(Poisson), 1, 2, 10 and 100 times as many as that, whatever becomes of those before; how late they are sent because the clients'
own processor is busy is told apart from how long the server takes. "settled" is p99 without the first second, "429 us" what a
refusal took of the server's event loop in processor time, "others" the processors that other programs had meanwhile. soak:
every route in turn, texts of all lengths, bad bodies and clients that leave among them.

Server and clients run on the same machine, so the load that the clients are is taken from the server: figures are shares
and ratios within one run. With `--h2load` the clients are that program (Debian's nghttp2-client), which takes a tenth of a
processor where ours take a half: 16 connections that ask again at once, then 900 that would like to send so many times as much
together, each of which waits for its answer. The last line with `--json` is one JSON object.
"""

import argparse
import asyncio
import json
import lzma
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bertsmith.cli.terminal import table, talk
from bertsmith.shipped import DEFAULT
from bertsmith.text import split_sentences

CLIENTS = 16
TIMES = (1.0, 2.0, 10.0, 100.0)
ONSET = (
    1.0  # seconds in which a flood begins, and the queue gives way once as to a burst: "settled" is what comes after
)
HELD = 900  # connections of h2load in a flood
SENDERS = 800  # connections at most; the server takes 1000
FASTEST = 12_000  # requests a second that one process of clients is asked to send, at most


@dataclass
class Load:
    """What became of the requests of one kind of load."""

    offered: float
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    unsent: int = 0
    without_hint: int | None = 0  # refusals without Retry-After; None: not looked at
    memory: float = 0.0
    late: float = 0.0
    settled: list[float] = field(default_factory=list)
    loop: float = 0.0
    model: float = 0.0
    others: float = 0.0

    @property
    def goodput(self) -> float:
        return self.statuses[200] / self.seconds

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.latencies, share)) if self.latencies else float("nan")

    @property
    def settled_p99(self) -> float:
        return float(np.percentile(self.settled, 99)) if self.settled else float("nan")

    def refusal(self, answer: float) -> float:
        """Seconds of the event loop's processor time that a refusal took, if an answer took so many."""
        refused = self.statuses[429]
        return (self.loop - answer * self.statuses[200]) / refused if refused >= 1000 else float("nan")

    def as_dict(self) -> dict[str, Any]:
        return {
            "offered": self.offered,
            "sent": sum(self.statuses.values()) / self.seconds,
            "goodput": self.goodput,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "without_retry_after": self.without_hint,
            "unsent": self.unsent,
            "p50": self.percentile(50),
            "p99": self.percentile(99),
            "settled_p99": self.settled_p99,
            "most_late": self.late,
            "loop_seconds": self.loop,
            "model_seconds": self.model,
            "others_processors": self.others,
            "memory_mb": self.memory,
        }


Answer = asyncio.Future[tuple[int, bytes]]
"""Status and headers."""


class Connection(asyncio.Protocol):
    """HTTP/1.1 with as little work as can be: clients and server share the processors."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.transport: asyncio.Transport | None = None
        self.answer: Answer | None = None
        self.got = b""

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and headers."""
        if self.transport is None or self.transport.is_closing():
            await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self.port)
        return await self.send(request)

    def send(self, request: bytes) -> Answer:
        """Over a connection that is there: what `ask` gives."""
        assert self.transport is not None
        self.got, self.answer = b"", asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data
        head, found, body = self.got.partition(b"\r\n\r\n")
        if not found or self.answer is None or self.answer.done():
            return
        head = head.lower()
        if len(body) >= int(head.partition(b"content-length: ")[2].split(b"\r\n", 1)[0] or 0):
            if b"connection: close" in head:
                self.leave()
            self.answer.set_result((int(head[9:12]), head))

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(ConnectionError("There was no answer."))

    def leave(self) -> None:
        """Without a word."""
        if self.transport is not None:
            self.transport.abort()
            self.transport = None


def request(path: str, body: Any, *, raw: bytes | None = None) -> bytes:
    """A POST, ready to be sent."""
    content = json.dumps(body).encode() if raw is None else raw
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


def sentences() -> list[str]:
    """Real ones, of the text that comes with the demo."""
    packed = files("bertsmith.demo").joinpath("data", "reviews.txt.xz").read_bytes()
    lines = lzma.decompress(packed).decode().splitlines()[:20_000]
    found = [sentence for line in lines for sentence in split_sentences(line)]
    random.Random(3).shuffle(found)
    return [one for one in found if one.strip()][:5000]


@contextmanager
def server(model: str) -> Iterator[tuple[psutil.Process, int]]:
    """`bertsmith serve` with its defaults, as a process of its own."""
    command = [sys.executable, "-m", "bertsmith", "serve", "--model", model, "--port", "0", "--drain", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert process.stderr is not None
    line = next(line for line in process.stderr if '"listening"' in line)
    drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
    try:
        yield psutil.Process(process.pid), json.loads(line)["port"]
    finally:
        process.terminate()
        code = process.wait(60)
        drain.wait(10)
        assert code == 0, code


class Meter:
    """Processor time while a load is under way: of the server's event loop, its model's thread, and of all other programs."""

    def __init__(self, process: psutil.Process) -> None:
        self.process = process
        self.before = self.seconds()

    def seconds(self) -> tuple[float, float, float]:
        """Until now: the server's first thread, its others, and what neither it nor we have taken."""
        threads = {one.id: one.user_time + one.system_time for one in self.process.threads()}
        all_of_it, here, loop = psutil.cpu_times(), time.process_time(), threads[self.process.pid]
        busy = sum(all_of_it) - all_of_it.idle - getattr(all_of_it, "iowait", 0.0)
        rest = sum(threads.values()) - loop
        return loop, rest, busy - loop - rest - here

    def read(self, load: "Load") -> None:
        """Write down what was taken since the beginning."""
        loop, model, others = (now - then for now, then in zip(self.seconds(), self.before, strict=True))
        load.loop, load.model, load.others = loop, model, others / load.seconds


async def peak(process: psutil.Process, port: int, requests: list[bytes], seconds: float) -> Load:
    """Clients that ask again as soon as they have an answer."""
    load, end = Load(offered=0.0), time.perf_counter() + seconds

    async def client(number: int) -> None:
        connection, dice = Connection(port), random.Random(number)
        while (began := time.perf_counter()) < end:
            status, _ = await connection.ask(dice.choice(requests))
            load.statuses[status] += 1
            if status == 200:
                load.latencies.append(time.perf_counter() - began)
            else:
                await asyncio.sleep(0.1)
        connection.leave()

    began, meter = time.perf_counter(), Meter(process)
    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    load.seconds = time.perf_counter() - began
    meter.read(load)
    return load


class Flood:
    """Requests that arrive at random times, so many a second, whatever became of those before."""

    def __init__(self, port: int, requests: list[bytes], rate: float) -> None:
        self.load, self.requests, self.dice = Load(offered=rate), requests, random.Random(int(rate))
        self.idle = [Connection(port) for _ in range(SENDERS)]
        self.under_way = 0

    async def run(self, process: psutil.Process, seconds: float) -> Load:
        for connection in self.idle:
            await connection.ask(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        meter = Meter(process)
        began = due = time.perf_counter()
        while due < began + seconds:
            while (now := time.perf_counter()) >= due:
                self.load.late = max(self.load.late, now - due)
                self.send(now, settled=now > began + ONSET)
                due += self.dice.expovariate(self.load.offered)
            await asyncio.sleep(max(due - now, 0.001))  # answers must have their turn, even if we are late
        self.load.seconds = time.perf_counter() - began
        meter.read(self.load)
        while self.under_way:
            await asyncio.sleep(0.01)
        for connection in self.idle:
            connection.leave()
        return self.load

    def send(self, now: float, *, settled: bool) -> None:
        if not self.idle:
            self.load.unsent += 1
            return
        connection = self.idle.pop()
        self.under_way += 1
        answer = connection.send(self.dice.choice(self.requests))
        answer.add_done_callback(partial(self.ended, connection, now, self.load.settled if settled else []))

    def ended(self, connection: Connection, sent: float, settled: list[float], answer: Answer) -> None:
        self.under_way -= 1
        status, head = (0, b"") if answer.exception() else answer.result()
        load = self.load
        load.statuses[status] += 1
        if status == 200:
            load.latencies.append(time.perf_counter() - sent)
            settled.append(load.latencies[-1])
        elif status == 429:
            load.without_hint = (load.without_hint or 0) + (b"retry-after: " not in head)
        if connection.transport is not None:
            self.idle.append(connection)


def by_h2load(process: psutil.Process, port: int, seconds: float, rate: float = 0.0) -> Load:
    """The peak, or a flood of so many requests a second; all are one sentence of the usual length."""
    connections = HELD if rate else CLIENTS
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder) / "body.json", Path(folder) / "log.tsv"
        texts = sorted(sentences(), key=len)
        body.write_text(json.dumps({"inputs": texts[len(texts) // 2]}), encoding="utf-8")
        command = ["h2load", "--h1", "-t", "1", "-c", str(connections), "-D", str(max(round(seconds), 1))]
        command += ["--rps", str(rate / connections)] if rate else []
        command += ["-d", str(body), "-H", "content-type: application/json", "--log-file", str(log)]
        meter = Meter(process)
        subprocess.run([*command, f"http://127.0.0.1:{port}/embed"], check=True, stdout=subprocess.DEVNULL)
        load = Load(offered=rate, seconds=max(round(seconds), 1), without_hint=None)
        meter.read(load)
        begun, status, took = np.loadtxt(log, dtype=np.int64, delimiter="\t", unpack=True)  # microseconds
    load.statuses.update(status.tolist())
    right = status == 200
    load.latencies = (took[right] / 1e6).tolist()
    load.settled = (took[right & (begun > begun.min() + 1e6 * ONSET)] / 1e6).tolist()
    return load


def measure_flood(model: str, seconds: float, *, h2load: bool = False) -> dict[str, Any]:
    requests = [request("/embed", {"inputs": text}) for text in sentences()]

    def highest(seconds: float) -> Load:
        if h2load:
            return by_h2load(process, port, seconds)
        return asyncio.run(peak(process, port, requests, seconds))

    def flooded(rate: float) -> Load:
        if h2load:
            return by_h2load(process, port, seconds, rate)
        return asyncio.run(Flood(port, requests, min(rate, FASTEST)).run(process, seconds))

    with server(model) as (process, port):
        highest(seconds / 4)  # warm
        loads = {"peak": highest(seconds)}
        loads["peak"].memory = process.memory_info().rss / 1e6
        for times in TIMES:
            loads[f"{times:g} x"] = load = flooded(times * loads["peak"].goodput)
            load.memory = process.memory_info().rss / 1e6
            time.sleep(2)
        again = highest(seconds / 2)
        loads["peak again"] = again
        again.memory = process.memory_info().rss / 1e6
    answer = loads["peak"].loop / loads["peak"].statuses[200]
    rows = [
        (
            name,
            f"{load.offered:.0f}",
            f"{load.goodput:.0f}",
            ", ".join(f"{status}: {count}" for status, count in sorted(load.statuses.items())),
            *(f"{1000 * one:.0f}" for one in (load.percentile(50), load.percentile(99), load.settled_p99, load.late)),
            f"{1e6 * load.refusal(answer):.0f}",
            f"{load.others:.2f}",
            f"{load.memory:.0f}",
            load.unsent,
        )
        for name, load in loads.items()
    ]
    columns = (
        "offered/s",
        "answered/s",
        "statuses",
        "p50 ms",
        "p99 ms",
        "settled",
        "late ms",
        "429 us",
        "others",
        "MB",
        "unsent",
    )
    table(("load", *columns), rows)
    return {name: load.as_dict() | {"loop_us_per_429": 1e6 * load.refusal(answer)} for name, load in loads.items()}


def mixture() -> list[tuple[bytes, set[int]]]:
    """Requests of every kind, and the statuses that each may get."""
    found, texts, dice = [], sentences(), random.Random(7)

    def add(path: str, body: Any = None, *statuses: int, raw: bytes | None = None) -> None:
        found.append((request(path, body, raw=raw), {*(statuses or (200,)), 429}))

    for _ in range(60):
        some = dice.sample(texts, dice.randint(1, 6))
        add("/embed", {"inputs": some})
        add("/v1/embeddings", {"input": some[0], "encoding_format": "base64"})
        add("/v1/embeddings", {"input": some, "dimensions": 64})
        add("/embed_all", {"inputs": some[0]})
        add("/tokenize", {"inputs": some})
        add("/decode", {"ids": [dice.randrange(5, 8000) for _ in range(9)]})
        add("/similarity", {"inputs": {"source_sentence": some[0], "sentences": texts[:3]}})
        add("/encode", {"id": 1, "texts": some})
        add("/fill", {"text": some[0] + " [MASK] ."})
        add("/predict", {"inputs": some[0]}, 424)
        add("/embed", {"inputs": ""}, 400)
        add("/embed", {"inputs": {"no": 1}}, 422)
        add("/v1/embeddings", None, 400, raw=b'{"input": NaN}')
    add("/embed", {"inputs": " ".join(texts[:400])})
    add("/embed", {"inputs": texts[:200]})
    add("/embed", raw=b'{"inputs": "' + b"x" * 1_900_000 + b'"}')
    add("/nowhere", {}, 404)
    return found


async def mixed(port: int, process: psutil.Process, count: int, minutes: float) -> dict[str, Any]:
    """The soak: so many requests, or so many minutes."""
    requests = mixture()
    heavy = requests[-4:]
    statuses: Counter[int] = Counter()
    samples: list[tuple[int, float, int, int]] = []
    wrong: list[int] = []
    done = left = 0
    end = time.perf_counter() + 60 * minutes

    async def client(number: int) -> None:
        nonlocal done, left
        connection, dice = Connection(port), random.Random(number)
        while done < count and time.perf_counter() < end:
            sent, allowed = dice.choice(heavy) if dice.random() < 0.0005 else dice.choice(requests[:-4])
            done += 1  # refused ones count too: they come again a little later
            if done % 1000 == 0:
                memory = process.memory_info().rss / 1e6
                samples.append((done, memory, process.num_fds(), process.num_threads()))
                talk.print(f"{done:,} requests, {memory:.1f} MB")
            try:
                if dice.random() < 0.02:  # this one leaves before it has its answer
                    left += 1
                    await asyncio.wait_for(connection.ask(sent), 0.002)
                else:
                    status, _ = await connection.ask(sent)
                    statuses[status] += 1
                    if status not in allowed:
                        wrong.append(status)
                    if status == 429:
                        await asyncio.sleep(0.2)
            except TimeoutError:
                connection.leave()
        connection.leave()

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(16)))
    seconds = time.perf_counter() - began
    rows = np.array(samples, np.float64)
    kept = rows[len(rows) // 4 :]
    slope = float(np.polyfit(kept[:, 0], kept[:, 1], 1)[0] * 100_000) if len(kept) > 2 else float("nan")
    return {
        "requests": done,
        "left": left,
        "seconds": seconds,
        "statuses": {str(status): number for status, number in sorted(statuses.items())},
        "wrong": wrong[:20],
        "memory_mb": {
            "after_1000": samples[0][1],
            "quarter": float(kept[0, 1]),
            "end": samples[-1][1],
            "most": rows[:, 1].max(),
        },
        "slope_mb_per_100000": slope,
        "descriptors": [int(rows[:, 2].min()), int(rows[:, 2].max())],
        "threads": [int(rows[:, 3].min()), int(rows[:, 3].max())],
    }


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("flood", "soak"))
    parser.add_argument("--model", default=DEFAULT)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load of the flood")
    parser.add_argument("--h2load", action="store_true", help="let it send the flood")
    parser.add_argument("--requests", type=int, default=100_000, help="of the soak")
    parser.add_argument("--minutes", type=float, default=1e9, help="after which the soak ends")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.what == "flood":
        found = measure_flood(options.model, options.seconds, h2load=options.h2load)
    else:
        with server(options.model) as (process, port):
            found = asyncio.run(mixed(port, process, options.requests, options.minutes))
        table(("what", ""), [(name, json.dumps(value)) for name, value in found.items()])
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
