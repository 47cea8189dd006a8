"""Make the checkpoints of this folder anew, by TensorFlow itself.

    pip install tensorflow-cpu && python tests/checkpoints/tensorflow/make.py

Written by TensorFlow 2.21.0. Each value follows from the tensor's name, see `values`; the tests know the same rule.
"""

import zlib
from pathlib import Path

import numpy as np
import tensorflow as tf

HERE = Path(__file__).parent
V, P, T, H, F = 37, 19, 2, 4, 6  # tokens, positions, segments, hidden, feed-forward


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of -1 to 1 that float16 holds exactly."""
    count = int(np.prod(shape))
    return (((np.arange(count) * 7 + zlib.crc32(name.encode()) % 101) % 64) / 32 - 1).astype(np.float32).reshape(shape)


def bert_shapes() -> dict[str, tuple[int, ...]]:
    """The variables of google-research/bert's run_pretraining.py for one layer."""
    layer = "bert/encoder/layer_0"
    dense = {
        f"{layer}/attention/self/query": (H, H),
        f"{layer}/attention/self/key": (H, H),
        f"{layer}/attention/self/value": (H, H),
        f"{layer}/attention/output/dense": (H, H),
        f"{layer}/intermediate/dense": (H, F),
        f"{layer}/output/dense": (F, H),
        "bert/pooler/dense": (H, H),
        "cls/predictions/transform/dense": (H, H),
    }
    norms = ("bert/embeddings", f"{layer}/attention/output", f"{layer}/output", "cls/predictions/transform")
    return (
        {f"{name}/kernel": shape for name, shape in dense.items()}
        | {f"{name}/bias": shape[1:] for name, shape in dense.items()}
        | {f"{name}/LayerNorm/{kind}": (H,) for name in norms for kind in ("gamma", "beta")}
        | {
            "bert/embeddings/word_embeddings": (V, H),
            "bert/embeddings/position_embeddings": (P, H),
            "bert/embeddings/token_type_embeddings": (T, H),
            "cls/predictions/output_bias": (V,),
            "cls/seq_relationship/output_weights": (2, H),
            "cls/seq_relationship/output_bias": (2,),
        }
    )


def save(prefix: str, tensors: dict[str, tf.Tensor], slices: dict[str, str] | None = None) -> None:
    """Save under `prefix` with the operation that Saver uses."""
    names = sorted(tensors)
    specs = [(slices or {}).get(name, "") for name in names]
    tf.raw_ops.SaveV2(
        prefix=str(HERE / prefix), tensor_names=names, shape_and_slices=specs, tensors=[tensors[n] for n in names]
    )


def main() -> None:
    """Write all of them."""
    for old in HERE.glob("*.ckpt*"):
        old.unlink()

    # A folder as Google published them, and one as run_pretraining.py leaves it.
    shapes = bert_shapes()
    weights = {name: tf.constant(values(name, shape)) for name, shape in shapes.items()}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.get_variable(n, initializer=values(n, s)) for n, s in shapes.items()]
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(variables).save(session, str(HERE / "bert_model.ckpt"), write_meta_graph=False)
    (HERE / "checkpoint").unlink()  # it names a folder of this machine
    slots = {f"{n}/{slot}": tf.zeros(s) for n, s in shapes.items() for slot in ("adam_m", "adam_v")}
    save("model.ckpt-20", weights | slots | {"global_step": tf.constant(20, tf.int64)})

    # Every type, with a scalar and an empty tensor.
    kinds = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    tensors = {f"kinds/{kind}": tf.cast(values(kind, (3, 5)) * 32, kind) for kind in kinds}
    save("kinds.ckpt", tensors | {"scalar": tf.constant(2.5), "empty": tf.zeros((0, 4))})

    # What is refused, or comes in several files.
    save("sliced.ckpt", {"part": tf.constant(values("part", (2, 3)))}, {"part": "4 3 0,2:0,3"})
    save("strings.ckpt", {"text": tf.constant(["a", "bc"])})
    save("one.ckpt", {"one": tf.constant(values("one", (2, 3)))})
    save("two.ckpt", {"two": tf.constant(values("two", (4,)))})
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(HERE / "one.ckpt"), str(HERE / "two.ckpt")],
        destination_prefix=str(HERE / "shards.ckpt"),
        delete_old_dirs=False,
    )
    tf.train.Checkpoint(step=tf.Variable(1)).write(str(HERE / "objects.ckpt"))


if __name__ == "__main__":
    main()
