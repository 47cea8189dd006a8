"""Our lanes beside each other on one model: by kernels of our own, by torch's operators, and torch as it comes.

    python benchmarks/measure_lanes.py [--model small-english] [--texts 500] [--rounds 5] [--threads 2]

The same texts as in `measure_embedding.py`, in turns, in one process. Prints tokens a second, their median and range over the
rounds, and the least cosine to torch's float32.
"""

import argparse
import time
from statistics import median

import numpy as np
import torch
from measure_embedding import mixed_texts

import bertsmith
from bertsmith.cli.terminal import table
from bertsmith.embed import BFloat16, Embedder, EmbedOptions, Float32, Int8, Lane, lanes
from bertsmith.nn import Model


class AsItComes(Lane, kind="as_it_comes"):
    """The modules that the model is made of."""

    def of(self, model: Model) -> Model:
        return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small-english", help="a model folder, or the name of a shipped one")
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    checkpoint = bertsmith.load(options.model).checkpoint
    contestants = {"torch as it comes": Embedder(checkpoint, EmbedOptions(lane=AsItComes()))}
    by_kernels = lanes.missing
    for how, missing in (("operators", lambda dtype: "left out"), ("kernels", by_kernels)):
        lanes.missing = missing
        for lane in (Float32(), BFloat16(), Int8()):
            embedder = Embedder(checkpoint, EmbedOptions(lane=lane))
            if embedder.lane == lane:
                contestants[f"{lane.kind} by {how}"] = embedder
    texts, _ = mixed_texts(options.texts)
    reader = contestants["torch as it comes"]
    tokens = sum(len(checkpoint.tokenizer.encode(t, special_tokens=True, max_length=reader.max_length)) for t in texts)
    vectors = {name: embedder.embed(texts).vectors for name, embedder in contestants.items()}
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, embedder in contestants.items():
            started = time.perf_counter()
            embedder.embed(texts)
            speeds[name].append(tokens / (time.perf_counter() - started))
    units = {name: v / np.linalg.norm(v, axis=-1, keepdims=True) for name, v in vectors.items()}
    least = {name: (unit * units["torch as it comes"]).sum(-1).min() for name, unit in units.items()}
    table(
        ["", "tokens/s", "range", "cosine, least"],
        [
            (name, f"{median(all_):,.0f}", f"{min(all_):,.0f} to {max(all_):,.0f}", f"{least[name]:.5f}")
            for name, all_ in speeds.items()
        ],
    )


if __name__ == "__main__":
    main()
