import resource
import subprocess
import sys

import pytest
import torch

from bertsmith.train.memory import machine_memory

PROGRAM = """
import resource
import torch
from bertsmith.train import keep_freed_memory

torch.set_num_threads(1)
keep_freed_memory()
for round in range(30):
    if round == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.ones(1000, 1000) for _ in range(10)]
    del kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(environment: dict[str, str]) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_pages_are_cleared_once_and_not_every_step() -> None:
    step = 10 * 4_000_000 // resource.getpagesize()
    assert faults({}) < step
    assert faults({"MALLOC_MMAP_THRESHOLD_": "65536"}) > 10 * step, "what the user sets stands"


def test_a_machine_has_more_memory_than_this_process() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert used < machine_memory(torch.device("cpu")) < 1 << 50
