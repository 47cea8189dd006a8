"""What more machines would bring, on paper: an alpha-beta model, its two constants fitted to published runs.

    python benchmarks/project_scaling.py [--rate TOKENS_PER_SECOND] [--parameters N] [--batch SEQUENCES] [--length TOKENS]

Nothing is run. A step of N GPUs on N/8 machines takes

    c · b  +  2 · M · (7/8) / NVLINK  +  2 · (M/8) · (1 - 1/machines) / NETWORK  +  alpha · log2(machines)

for b samples a GPU and M bytes of gradients, which are added up inside the machines first, then across them, each GPU its
eighth; nothing is hidden behind the backward pass. c and alpha are fitted, to relative errors, on BERT-large in MLPerf
Training (v5.0, and v4.0 for 3,472 GPUs); each fitted point is also predicted by a fit without it.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NVLINK = 450e9  # bytes a second and GPU, one direction (H100, H200)
NETWORK = 50e9  # 400 Gbit/s a GPU
BERT_LARGE = 335e6
MACHINE = 8


@dataclass(frozen=True)
class Point:
    """A published run: samples a second of all GPUs, and samples a GPU and step (packed rows of 512 hold two)."""

    system: str
    gpus: int
    samples_per_second: float
    per_gpu: int

    @property
    def milliseconds(self) -> float:
        return 1e3 * self.per_gpu * self.gpus / self.samples_per_second

    @property
    def machines(self) -> float:
        return self.gpus / MACHINE


POINTS = (
    Point("8 x H200", 8, 8_300, 96),
    Point("16 x H200", 16, 12_900, 48),
    Point("32 x H200", 32, 25_200, 24),
    Point("64 x H200", 64, 47_100, 72),
    Point("3,472 x H100", 3_472, 800_000, 4),
)
ONE_MACHINE, FITTED = POINTS[0], POINTS[1:]


def transfer(gradient_bytes: float, machines: float) -> float:
    """Milliseconds to add up the gradients, without the part that grows with log2(machines)."""
    inside = 2 * gradient_bytes * (MACHINE - 1) / MACHINE / NVLINK
    across = 2 * gradient_bytes / MACHINE * (1 - 1 / machines) / NETWORK
    return 1e3 * (inside + across)


def fit(points: Sequence[Point]) -> tuple[float, float]:
    """(c, alpha) in milliseconds, by least squares of relative errors. Gradients were added up in 16 bits."""
    times = np.array([p.milliseconds for p in points])
    known = np.array([transfer(2 * BERT_LARGE, p.machines) for p in points])
    terms = np.array([[p.per_gpu, math.log2(p.machines)] for p in points])
    solution, *_ = np.linalg.lstsq(terms / times[:, None], (times - known) / times)
    return float(solution[0]), float(solution[1])


def predicted(point: Point, constants: tuple[float, float]) -> float:
    c, alpha = constants
    return c * point.per_gpu + transfer(2 * BERT_LARGE, point.machines) + alpha * math.log2(point.machines)


def calibration() -> tuple[float, float]:
    """Print how well the model describes what was published; what the projection takes from it."""
    constants = fit(FITTED)
    alone = (ONE_MACHINE.milliseconds - transfer(2 * BERT_LARGE, 1)) / ONE_MACHINE.per_gpu
    print(f"one machine: {alone:.3f} ms a sample; several: {constants[0]:.3f}, alpha {constants[1]:.2f} ms")
    print(f"\n{'published':<14}{'ms a step':>10}{'model':>8}{'error':>8}{'without it':>12}{'error':>8}")
    for point in FITTED:
        others = fit([p for p in FITTED if p is not point])
        own, left_out = predicted(point, constants), predicted(point, others)
        print(
            f"{point.system:<14}{point.milliseconds:>10.1f}{own:>8.1f}{own / point.milliseconds - 1:>8.0%}"
            f"{left_out:>12.1f}{left_out / point.milliseconds - 1:>8.0%}"
        )
    return constants[0] / alone, constants[1]


def project(rate: float, parameters: float, batch: int, length: int, slower: float, alpha: float) -> None:
    """Print the steps of one training run on more and more GPUs: the batch stays, as a recipe's does."""
    single = 1e3 * length / rate
    print(f"\n{parameters:.3g} parameters, {batch:,} sequences of {length} a step, one GPU {rate:,.0f} tokens/s")
    print(f"{'GPUs':>6}{'a GPU':>8}{'ms a step':>11}{'tokens/s':>14}{'efficiency':>12}")
    for gpus in (1, 8, 16, 32, 64, 128, 256, 512):
        if gpus > batch:
            break
        machines = max(1.0, gpus / MACHINE)
        own = math.ceil(batch / gpus)
        step = own * single * (slower if machines > 1 else 1.0)
        if gpus > 1:
            step += transfer(4 * parameters, machines) + alpha * math.log2(machines)  # gradients are float32 here
        speed = 1e3 * batch * length / step
        print(f"{gpus:>6}{own:>8}{step:>11.1f}{speed:>14,.0f}{speed / rate / gpus:>12.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, help="real tokens a second of one GPU, measured")
    parser.add_argument("--parameters", type=float, default=110e6)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--length", type=int, default=512)
    given = parser.parse_args()
    slower, alpha = calibration()
    if given.rate:
        project(given.rate, given.parameters, given.batch, given.length, slower, alpha)
        return
    for parameters, rate in ((110e6, 700e3), (335e6, 210e3)):  # assumed: about half of an H100's limit
        project(rate, parameters, given.batch, given.length, slower, alpha)


if __name__ == "__main__":
    main()
