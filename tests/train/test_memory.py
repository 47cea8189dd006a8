import resource
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from bertsmith.train import keep_freed_memory

torch.set_num_threads(1)
if sys.argv[1] == "kept":
    keep_freed_memory()
for round in range(60):
    if round == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.ones(1000, 1000) for _ in range(10)]
    del kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*arguments: str, environment: dict[str, str] | None = None) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_pages_are_cleared_once_and_not_every_step() -> None:
    step = 10 * 4_000_000 // resource.getpagesize()
    assert faults("default") > 10 * step
    assert faults("kept") < step
    assert faults("kept", environment={"MALLOC_TRIM_THRESHOLD_": "131072"}) > 10 * step, "the user's setting stands"
