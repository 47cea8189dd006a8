"""Folders of the original code, among them those that TensorFlow wrote, by tensorflow/make.py."""

import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bertsmith import nn
from bertsmith.checkpoints import Checkpoint, describe, google_folder, load_model, save_model
from bertsmith.checkpoints.google_names import transforms
from bertsmith.checkpoints.tensor_bundle import TensorBundle, write_bundle
from bertsmith.checkpoints.transforms import to_stored
from bertsmith.errors import CheckpointError, VocabularyError
from bertsmith.folders import publish
from bertsmith.text import Tokenizer, Vocabulary

TENSORFLOW = Path(__file__).parent / "tensorflow"
CONFIG = {
    "attention_probs_dropout_prob": 0.1,
    "directionality": "bidi",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 4,
    "initializer_range": 0.02,
    "intermediate_size": 6,
    "max_position_embeddings": 19,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "type_vocab_size": 2,
    "vocab_size": 37,
}

HEADS: dict[str, tuple[nn.Head.Config, dict[str, Any]]] = {
    "sequence_label": (nn.SequenceHead.Config(num_labels=3), {"kind": "classify", "labels": ["no", "maybe", "yes"]}),
    "sequence_score": (nn.SequenceHead.Config(num_labels=1), {"kind": "regress"}),
    "multi_label": (nn.SequenceHead.Config(num_labels=2), {"kind": "multilabel", "labels": ["a", "b"]}),
    "token_label": (nn.TokenHead.Config(num_labels=3), {"kind": "tag", "labels": ["O", "B-X", "I-X"]}),
    "multiple_choice": (nn.SequenceHead.Config(num_labels=1), {"kind": "choice"}),
    "answer_span": (nn.SpanHead.Config(), {"kind": "span"}),
}


def values(name: str, *shape: int) -> torch.Tensor:
    """What make.py saved under `name`."""
    count = torch.Size(shape).numel()
    return (((torch.arange(count) * 7 + zlib.crc32(name.encode()) % 101) % 64) / 32 - 1).reshape(shape)


@pytest.fixture
def google(tmp_path: Path, tokenizer: Tokenizer) -> Callable[..., Path]:
    """A folder with the checkpoint `name` of TensorFlow's and these changes of bert_config.json."""

    def make(name: str = "bert_model.ckpt", *, folder: str = "theirs", **changes: Any) -> Path:
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        for file in TENSORFLOW.glob(f"{name}.*"):
            shutil.copy(file, path)
        tokenizer.vocabulary.save(path)
        (path / "bert_config.json").write_text(json.dumps(CONFIG | changes), encoding="utf-8")
        return path

    return make


@pytest.fixture
def rewritten(google: Callable[..., Path]) -> Callable[..., Path]:
    """A folder whose checkpoint has these tensors besides, instead, or (None) no longer."""

    def make(tensors: dict[str, torch.Tensor | None], **changes: Any) -> Path:
        path = google(**changes)
        bundle = TensorBundle.open(path / "bert_model.ckpt")
        found = {name: bundle.read(name) for name in bundle.entries} | tensors
        write_bundle(path / "bert_model.ckpt", {name: t for name, t in found.items() if t is not None})
        return path

    return make


@pytest.fixture
def original(checkpoint: Callable[..., Checkpoint]) -> Callable[..., Checkpoint]:
    """A random checkpoint that the original code could have made."""

    def make(parts: dict[str, Any] | None = None, **changes: Any) -> Checkpoint:
        feed_forward = changes.pop("feed_forward", nn.FeedForward.Config(intermediate_size=17))
        block = nn.AttentionBlock.Config(
            attention=nn.Attention.Config(num_attention_heads=2), feed_forward=feed_forward
        )
        defaults = {"layers": (nn.Layers(count=2, block=block),), "layer_norm_eps": 1e-12, "embedding_dropout": 0.1}
        return checkpoint(parts, **(defaults | changes))

    return make


def as_theirs(folder: Path) -> Path:
    """A folder that `save_model` made, with nothing of ours in it: one of transformers."""
    for name in ("bertsmith.json", "integrity.json", "modules.json"):
        (folder / name).unlink()
    return folder


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    model = load_model(path).model
    return to_stored(transforms(model.config), model)


def test_every_tensor_of_tensorflows_is_where_it_belongs(google: Callable[..., Path]) -> None:
    found = load_model(google())
    stored = to_stored(transforms(found.model.config), found.model)
    assert len(stored) == 30
    for name, tensor in stored.items():
        assert torch.equal(tensor, values(name, *tensor.shape)), name
    kernel = values("bert/encoder/layer_0/attention/self/key/kernel", 4, 4)
    assert torch.equal(found.model.get_parameter("encoder.blocks.0.attention.query_key_value.weight")[4:8], kernel.T)
    assert torch.equal(found.model.encoder.token_table.weight, values("bert/embeddings/word_embeddings", 37, 4))
    assert sorted(found.model.config.heads) == ["masked_lm", "next_sentence"]
    assert not found.model.training
    assert found.tokenizer.behaviour == "google"
    assert found.tokenizer.rules.lower_case
    assert found.tokenizer.max_length == 19
    assert found.task is None


@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00001", ".meta"])
def test_a_checkpoint_is_found_by_its_prefix(google: Callable[..., Path], ending: str) -> None:
    prefix = google() / f"bert_model.ckpt{ending}"
    assert load_model(prefix).path == prefix
    assert describe(prefix)["format"] == "google"


def test_a_folder_is_described(google: Callable[..., Path]) -> None:
    found = describe(google())
    assert found["format"] == "google"
    assert found["architecture"] == "BertForPreTraining"
    assert found["weights"] == {"file": "bert_model.ckpt.index", "bytes": 1956, "dtypes": ["F32"], "sha256": None}
    missing = "\n".join(found["missing"])
    assert "uncased, because 0 of the 37 tokens in vocab.txt have capital letters" in missing
    assert "gelu is computed exactly" in missing
    assert "no integrity.json: TensorFlow's checksums show damage" in missing
    assert "of training" not in missing


def test_a_published_model_is_named(
    tmp_path: Path, google: Callable[..., Path], original: Callable[..., Checkpoint]
) -> None:
    remarks = describe(google(folder="uncased_L-2_H-128_A-2"))["missing"]
    assert any("uncased, because uncased_L-2_H-128_A-2 is Google's BERT-Tiny" in remark for remark in remarks)
    tokens = [*original().tokenizer.vocabulary.tokens, *(f"[unused{n}]" for n in range(30522 - 37))]
    tiny = original(hidden_size=128, vocab_size=30522, heads={})
    tiny = Checkpoint(model=tiny.model, tokenizer=Tokenizer(Vocabulary(tuple(tokens))))
    google_folder.save(tiny, tmp_path / "mine")
    remarks = describe(tmp_path / "mine")["missing"]
    assert "of the size of Google's BERT-Tiny, Uncased (uncased_L-2_H-128_A-2)" in remarks
    assert "uncased, as the tokenizer's files say" in remarks


def test_what_training_leaves_is_left_out_and_said(google: Callable[..., Path]) -> None:
    path = google("model.ckpt-20")
    text = 'model_checkpoint_path: "/elsewhere/run/model.ckpt-20"\nall_model_checkpoint_paths: "/elsewhere/run/model.ckpt-10"\n'
    (path / "checkpoint").write_text(text, encoding="utf-8")
    assert "61 variables of training are left out: adam_m, adam_v, global_step" in describe(path)["missing"]
    plain = weights_of(google("bert_model.ckpt", folder="plain"))
    trained = weights_of(path)
    assert plain.keys() == trained.keys()
    assert all(torch.equal(plain[name], trained[name]) for name in plain)


def test_of_several_checkpoints_the_newest_is_taken_if_it_is_named(google: Callable[..., Path]) -> None:
    path = google("model.ckpt-20")
    google("bert_model.ckpt")
    with pytest.raises(
        CheckpointError, match=r"several checkpoints, bert_model\.ckpt, model\.ckpt-20\. Give the path of one"
    ):
        load_model(path)
    (path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-20"\n', encoding="utf-8")
    assert describe(path)["weights"]["file"] == "model.ckpt-20.index"
    (path / "checkpoint").write_text('model_checkpoint_path: "../model.ckpt-30"\n', encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"it names 'model\.ckpt-30', which is not in this folder"):
        load_model(path)
    assert load_model(path / "bert_model.ckpt").model.config == load_model(path / "model.ckpt-20").model.config


def test_tensorflow_to_hugging_face_and_back_is_bit_equal(tmp_path: Path, google: Callable[..., Path]) -> None:
    theirs = google()
    between = as_theirs(save_model(tmp_path / "hf", load_model(theirs)))
    assert json.loads((between / "config.json").read_text(encoding="utf-8"))["architectures"] == ["BertForPreTraining"]
    google_folder.save(load_model(between), tmp_path / "again")
    for name in ("bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001", "vocab.txt"):
        assert (tmp_path / "again" / name).read_bytes() == (theirs / name).read_bytes()
    written = json.loads((tmp_path / "again" / "bert_config.json").read_text(encoding="utf-8"))
    assert {key: written[key] for key in CONFIG if key != "directionality"} == {
        key: value for key, value in CONFIG.items() if key != "directionality"
    }
    state = (tmp_path / "again" / "checkpoint").read_text(encoding="utf-8")
    assert state.splitlines()[0] == 'model_checkpoint_path: "bert_model.ckpt"'


@pytest.mark.parametrize("head", [*HEADS, "masked_lm", "next_sentence", "both", "none", "no pooler"])
def test_hugging_face_to_tensorflow_and_back_is_bit_equal(
    tmp_path: Path, original: Callable[..., Checkpoint], head: str
) -> None:
    heads: dict[str, nn.Head.Config] = {
        "masked_lm": nn.MaskedLMHead.Config(),
        "next_sentence": nn.SequenceHead.Config(num_labels=2, dropout=0.0),
    }
    task = None
    changes: dict[str, Any] = {"heads": heads}
    if head in HEADS:
        changes["heads"], task = {head: HEADS[head][0]}, HEADS[head][1]
    elif head != "both":
        changes["heads"] = {name: config for name, config in heads.items() if name == head}
    if head in ("no pooler", "token_label", "answer_span"):
        changes["pooler"] = False
    first = as_theirs(save_model(tmp_path / "first", original({"task": task}, **changes)))
    loaded = load_model(first)
    google_folder.save(loaded, tmp_path / "google")
    again = load_model(tmp_path / "google")
    assert again.task == loaded.task == task
    assert again.model.config == loaded.model.config
    assert again.tokenizer.sha256 == loaded.tokenizer.sha256
    second = save_model(tmp_path / "second", again)
    for name in ("model.safetensors", "config.json", "vocab.txt", "tokenizer_config.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


@pytest.mark.parametrize(
    ("name", "rows", "head", "task", "remark"),
    [
        (
            "",
            3,
            "sequence_label",
            {"kind": "classify", "labels": ["LABEL_0", "LABEL_1", "LABEL_2"]},
            "no labels are named",
        ),
        ("", 1, "sequence_score", {"kind": "regress"}, "output_weights is taken for the head of run_classifier.py"),
        ("cls/squad/", 2, "answer_span", {"kind": "span"}, "no pooling is named"),
    ],
)
def test_heads_of_the_original_scripts_are_recognised(
    rewritten: Callable[..., Path], name: str, rows: int, head: str, task: dict[str, Any], remark: str
) -> None:
    tensors = {f"{name}output_weights": torch.randn(rows, 4), f"{name}output_bias": torch.randn(rows)}
    path = rewritten({**tensors, "output_bias/adam_m": torch.zeros(rows)})
    found = load_model(path)
    assert sorted(found.model.config.heads) == sorted(["masked_lm", "next_sentence", head])
    assert found.task == task
    (weight,) = (
        p for n, p in found.model.named_parameters() if n.startswith(f"heads.{head}.") and n.endswith(".weight")
    )
    assert torch.equal(weight, tensors[f"{name}output_weights"])
    assert any(remark in line for line in describe(path)["missing"])


def test_labels_may_be_named_in_the_configuration(rewritten: Callable[..., Path]) -> None:
    head = {"output_weights": torch.randn(2, 4), "output_bias": torch.randn(2)}
    path = rewritten(head, id2label={"0": "bad", "1": "good"})
    assert load_model(path).task == {"kind": "classify", "labels": ["bad", "good"]}
    with pytest.raises(
        CheckpointError, match=r"wrong shape or type: output_weights is \[2, 4\] F32, expected \[3, 4\]"
    ):
        load_model(rewritten(head, id2label={"0": "bad", "1": "so", "2": "good"}))


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_other_kinds_of_numbers_become_float32(rewritten: Callable[..., Path], kind: str) -> None:
    table = values("bert/embeddings/word_embeddings", 37, 4)
    found = load_model(rewritten({"bert/embeddings/word_embeddings": table.to(getattr(torch, kind))}))
    assert found.model.encoder.token_table.weight.dtype == torch.float32
    assert torch.equal(found.model.encoder.token_table.weight, table)


def test_vectors_of_padding_are_left_out(tmp_path: Path, rewritten: Callable[..., Path]) -> None:
    """NVIDIA's scripts round the vocabulary up to a multiple of 8."""
    table = torch.cat([values("bert/embeddings/word_embeddings", 37, 4), torch.zeros(3, 4)])
    bias = torch.cat([values("cls/predictions/output_bias", 37), torch.zeros(3)])
    path = rewritten({"bert/embeddings/word_embeddings": table, "cls/predictions/output_bias": bias}, vocab_size=40)
    assert any("3 vectors of padding behind the 37 tokens are left out" in line for line in describe(path)["missing"])
    google_folder.save(load_model(path), tmp_path / "cut")
    name = "bert_model.ckpt.data-00000-of-00001"
    assert (tmp_path / "cut" / name).read_bytes() == (TENSORFLOW / name).read_bytes()
    with pytest.raises(CheckpointError, match="the tokenizer has 37 tokens and the model vectors for 36"):
        load_model(rewritten({}, vocab_size=36))


def test_a_model_with_padding_is_cut_back(tmp_path: Path, original: Callable[..., Checkpoint]) -> None:
    padded = original(vocab_size=40)
    google_folder.save(padded, tmp_path / "cut")
    entries = TensorBundle.open(tmp_path / "cut" / "bert_model.ckpt").entries
    assert entries["bert/embeddings/word_embeddings"].shape == (37, 12)
    assert entries["cls/predictions/output_bias"].shape == (37,)
    assert load_model(tmp_path / "cut").model.config.encoder.known_vocab_size == 37
    with pytest.raises(CheckpointError, match="the tokenizer has 37 tokens, the model only 30 vectors"):
        google_folder.save(original(vocab_size=30), tmp_path / "none")


@pytest.mark.parametrize(
    ("settings", "lower_case", "behaviour"),
    [
        ({"do_lower_case": False}, False, "google"),
        ({"do_lower_case": True, "bertsmith_behaviour": "hf"}, True, "hf"),
        ({"tokenizer_class": "BertTokenizer"}, True, "google"),
    ],
)
def test_the_tokenizers_own_files_come_first(
    google: Callable[..., Path], settings: dict[str, Any], lower_case: bool, behaviour: str
) -> None:
    path = google()
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    tokenizer = load_model(path).tokenizer
    assert (tokenizer.rules.lower_case, tokenizer.behaviour) == (lower_case, behaviour)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"layer_norm_eps": 1e-5}, "its normalizations differ in layer_norm_eps"),
        ({"masks": {"tokens": nn.Causal()}}, "full attention mask"),
        (
            {"feed_forward": nn.FeedForward.Config(intermediate_size=17, activation="gelu_tanh")},
            "activation is 'gelu_tanh'",
        ),
        ({"feed_forward": nn.GatedFeedForward.Config(intermediate_size=17)}, "it needs|plain feed-forward"),
    ],
)
def test_what_the_original_code_cannot_compute_is_refused(
    tmp_path: Path, original: Callable[..., Checkpoint], changes: dict[str, Any], problem: str
) -> None:
    heads = {"heads": {}} if "feed_forward" in changes else {}
    with pytest.raises(
        CheckpointError, match=f"no form as a TensorFlow checkpoint of the original BERT: .*({problem})"
    ):
        google_folder.save(original(**(changes | heads)), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_another_epsilon_is_refused(tmp_path: Path, checkpoint: Callable[..., Checkpoint]) -> None:
    with pytest.raises(CheckpointError, match="its layer_norm_eps is 1e-07, and there it is always 1e-12"):
        google_folder.save(checkpoint(), tmp_path / "none")


def test_another_tokenizer_is_refused(tmp_path: Path, original: Callable[..., Checkpoint]) -> None:
    made = original()
    keeps_accents = Tokenizer(made.tokenizer.vocabulary, strip_accents=False)
    with pytest.raises(CheckpointError, match="its tokenizer treats accents"):
        google_folder.save(Checkpoint(model=made.model, tokenizer=keeps_accents), tmp_path / "none")


def test_numbers_that_are_none_are_never_saved_or_loaded(
    tmp_path: Path, original: Callable[..., Checkpoint], rewritten: Callable[..., Path]
) -> None:
    made = original()
    with torch.no_grad():
        made.model.get_parameter("pooler.dense.bias")[3] = torch.inf
    with pytest.raises(CheckpointError, match="NaN or infinity in bert/pooler/dense/bias"):
        google_folder.save(made, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(CheckpointError, match="bert/pooler/dense/bias holds NaN or infinity"):
        load_model(rewritten({"bert/pooler/dense/bias": torch.full((4,), torch.nan)}))
    with pytest.raises(CheckpointError, match="bert/pooler/dense/bias holds NaN or infinity"):
        load_model(rewritten({"bert/pooler/dense/bias": torch.full((4,), 1e300, dtype=torch.float64)}))


def test_labels_must_fit_the_head(tmp_path: Path, original: Callable[..., Checkpoint]) -> None:
    head = {"sequence_label": nn.SequenceHead.Config(num_labels=3)}
    with pytest.raises(CheckpointError, match="its head gives 3 scores, and the task names the labels"):
        google_folder.save(original({"task": {"labels": ["a", "b"]}}, heads=head), tmp_path / "none")


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"bert/pooler/dense/kernel": None}, r"missing: bert/pooler/dense/kernel \[4, 4\]"),
        ({"loss/mine": torch.zeros(3)}, r"unexpected: loss/mine \[3\]"),
        (
            {"bert/pooler/dense/kernel": torch.zeros(4, 5)},
            r"bert/pooler/dense/kernel is \[4, 5\] F32, expected \[4, 4\]",
        ),
        ({"bert/pooler/dense/bias": torch.zeros(4, dtype=torch.int32)}, r"bias is \[4\] I32, expected \[4\]"),
        ({"output_weights": torch.tensor(1.0)}, r"output_weights is \[\] F32"),
    ],
)
def test_left_over_and_missing_tensors_are_listed(
    rewritten: Callable[..., Path], tensors: dict[str, torch.Tensor | None], problem: str
) -> None:
    with pytest.raises(CheckpointError, match=problem):
        describe(rewritten(tensors))


def test_incomplete_folders_are_refused(google: Callable[..., Path]) -> None:
    path = google()
    (path / "vocab.txt").rename(path / "vocab.old")
    with pytest.raises(VocabularyError, match=r"vocab\.txt: cannot be read"):
        load_model(path)
    (path / "vocab.old").rename(path / "vocab.txt")
    config = (path / "bert_config.json").rename(path / "config.old")
    with pytest.raises(CheckpointError, match=r"it has no bert_config\.json"):
        load_model(path)
    config.rename(path / "bert_config.json")
    load_model(path)
    (path / "bert_model.ckpt.data-00000-of-00001").unlink()
    with pytest.raises(CheckpointError, match=r"data-00000-of-00001: this file is missing"):
        load_model(path)
    with pytest.raises(CheckpointError, match="there is no such folder"):
        load_model(path / "other.ckpt")


def test_safetensors_are_preferred(
    tmp_path: Path, original: Callable[..., Checkpoint], google: Callable[..., Path]
) -> None:
    folder = as_theirs(save_model(tmp_path / "theirs", original()))
    assert google() == folder
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: these are not the weights"
    ):  # of the other bert_config
        (folder / "config.json").unlink()
        load_model(folder)


def test_a_folder_that_was_published_is_checked_whole(tmp_path: Path, original: Callable[..., Checkpoint]) -> None:
    with publish(tmp_path / "whole") as folder:
        google_folder.save(original(), folder)
    found = describe(tmp_path / "whole")
    assert len(found["weights"]["sha256"]) == 64
    assert not any("integrity" in line for line in found["missing"])
    load_model(tmp_path / "whole")
    file = tmp_path / "whole" / "vocab.txt"
    file.write_bytes(file.read_bytes().replace(b"a\nb\n", b"b\na\n", 1))
    with pytest.raises(CheckpointError, match=r"vocab\.txt: expected SHA-256"):
        load_model(tmp_path / "whole")
