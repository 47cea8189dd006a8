import os
import subprocess
import sys
from pathlib import Path

import pytest

from bertsmith.data.pools import Processes, RayCluster, pool_of, usable_cores
from bertsmith.errors import UsageError

# Workers are new interpreters, which find functions in a script and not in a test's module.
SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from bertsmith.data.pools import Processes
from bertsmith.errors import DataError

MARKS = Path(sys.argv[1])

def work(item):
    if item == "slow":
        time.sleep(0.3)
    if item == "fatal" or (item.startswith("unlucky") and not (MARKS / item).exists()):
        (MARKS / item).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "bad":
        raise DataError("this one is bad")
    if item == "wrong":
        raise KeyError(item)
    return item.upper(), os.getpid()

def run(*items):
    heard = []
    taken = [0]
    def source():
        for item in items:
            taken[0] += 1
            yield item
    try:
        for number, (item, (result, pid)) in enumerate(Processes(2).map(work, source(), heard.append)):
            assert (item, result, pid != os.getpid()) == (items[number], item.upper(), True)
            assert taken[0] <= number + 5, "no more items are taken than keep two workers busy"
            yield pid
    except Exception as error:
        yield repr(error)
    yield from heard

if __name__ == "__main__":
    print(len(set(run("slow", *map(str, range(20))))))
    for items in (["unlucky1", "b", "unlucky2", "c"], ["a", "fatal", "b"], ["a", "bad"], ["a", "wrong"]):
        print([found for found in run(*items) if isinstance(found, str)])
"""


def test_order_deaths_and_errors(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=True, timeout=100)
    several, unlucky, fatal, bad, wrong = done.stdout.splitlines()
    assert int(several) == 2
    for name in ("unlucky1", "unlucky2"):
        assert f"{name}: a process died over it (killed by SIGKILL); another one does it again." in unlucky
    assert "fatal: 4 processes died over this piece of text (killed by SIGKILL)" in fatal
    assert fatal.count("does it again") == 3
    assert "DataError('this one is bad')" in bad
    assert "in a worker process" in wrong and "raise KeyError(item)" in wrong


def test_a_single_item_is_done_here() -> None:
    unpicklable = lambda item: item + 1  # noqa: E731
    assert list(Processes(8).map(unpicklable, [2], print)) == [(2, 3)]
    assert list(Processes(8).map(unpicklable, [], print)) == []
    assert list(Processes(1).map(unpicklable, [2, 3], print)) == [(2, 3), (3, 4)]


def test_which_pool() -> None:
    assert usable_cores() >= 1
    assert pool_of(3, None) == Processes(3)
    with pytest.raises(UsageError, match="at least one process"):
        pool_of(0, None)
    pytest.importorskip("ray")
    assert pool_of(1, "ray") == RayCluster(None)
    assert pool_of(1, "ray:10.0.0.7:6379") == RayCluster("10.0.0.7:6379")


CLUSTER = """
import sys
from pathlib import Path
import ray
from bertsmith.data import pieces, prepare
from bertsmith.errors import DataError
from bertsmith.text import Tokenizer

if __name__ == "__main__":
    pieces._CHARACTERS = 2000
    folder = Path(sys.argv[1])
    tokenizer = Tokenizer.load(folder / "vocabulary")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    prepare(folder / "text.txt", tokenizer, folder / "cluster", duplicates="near", cluster="ray")
    prepare(folder / "text.txt", tokenizer, folder / "here", duplicates="near")
    (folder / "bad.jsonl").write_text('{"text": "\\\\ud83d"}')
    try:
        prepare(folder / "bad.jsonl", tokenizer, folder / "bad", cluster="ray")
    except DataError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_ray_cluster_of_two_makes_the_same_shards(tmp_path: Path, real_tokenizer) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'bertsmith[cluster]'")
    sentence = "The old mill stood by the river number {}, and its wheel turned {} times."
    text = "\n\n".join(" ".join(sentence.format(n, n * k) for k in range(9)) for n in range(60))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    real_tokenizer.save(tmp_path / "vocabulary")
    (tmp_path / "script.py").write_text(CLUSTER, encoding="utf-8")
    command = [sys.executable, tmp_path / "script.py", tmp_path]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert "bad.jsonl, line 1" in done.stdout
    here, there = tmp_path / "here", tmp_path / "cluster"
    files = sorted(file.relative_to(here) for file in here.rglob("*") if file.is_file())
    assert files == sorted(file.relative_to(there) for file in there.rglob("*") if file.is_file())
    for file in files:
        assert (here / file).read_bytes() == (there / file).read_bytes(), file
