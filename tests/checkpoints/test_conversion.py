"""From every format to every other: exactly, whole or not at all, and with a word on what is left out."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bertsmith import nn
from bertsmith.checkpoints import Checkpoint, convert, describe, load_model, save_model
from bertsmith.cli import main
from bertsmith.config import override
from bertsmith.errors import BertsmithError, CheckpointError, UsageError

Make = Callable[..., Checkpoint]
Edit = Callable[..., None]


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture
def config(config: Callable[..., nn.Model.Config]) -> Callable[..., nn.Model.Config]:
    """A model that TensorFlow has a form for."""
    small = ("encoder.layer_norm_eps=1e-12", "encoder.layers.0.block.residual.layer_norm_eps=1e-12")
    return lambda **changes: override(config(**changes), small)


@pytest.fixture
def pickled(foreign: Path) -> Path:
    """The folder as transformers 4 would have saved it."""
    torch.save(load_file(foreign / "model.safetensors"), foreign / "pytorch_model.bin")
    (foreign / "model.safetensors").unlink()
    return foreign


def split(folder: Path, save: Callable[[dict[str, torch.Tensor], Path], None], stem: str, end: str) -> None:
    """Its weights in two files with an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    places = {name: f"{stem}-0000{1 + i % 2}-of-00002{end}" for i, name in enumerate(names)}
    for file in set(places.values()):
        save({name: tensors[name] for name in names if places[name] == file}, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / f"{stem}{end}.index.json").write_text(json.dumps(index), encoding="utf-8")


def test_a_pickle_becomes_a_safe_folder(pickled: Path, checkpoint: Make, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"`bertsmith convert \S+ NEW --to hf`"):
        load_model(pickled)
    done = convert(pickled, tmp_path / "new", to="hf")
    assert (done.source_format, done.to, done.max_difference) == ("huggingface", "hf", None)
    assert done.files["model.safetensors"] == (tmp_path / "new" / "model.safetensors").stat().st_size
    expected = save_model(tmp_path / "expected", checkpoint())
    assert weights(tmp_path / "new") == weights(expected)
    origin = describe(tmp_path / "new")["lineage"]["converted_from"]
    assert origin["format"] == "huggingface"
    assert list(origin["sha256"]) == ["pytorch_model.bin"]


def test_a_pickle_with_more_than_tensors_is_refused(pickled: Path, tmp_path: Path) -> None:
    (pickled / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": print}))
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: it asks for 'builtins\.print'"):
        convert(pickled, tmp_path / "new", to="hf")
    torch.save({"model": torch.nn.Linear(2, 2)}, pickled / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"it asks for 'torch\.nn\.modules\.linear\.Linear'"):
        convert(pickled, tmp_path / "new", to="hf")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["safetensors", "pickle"])
def test_weights_in_several_files(foreign: Path, checkpoint: Make, tmp_path: Path, kind: str) -> None:
    if kind == "safetensors":
        split(foreign, save_file, "model", ".safetensors")
        index = foreign / "model.safetensors.index.json"
        assert describe(foreign)["weights"]["bytes"] == sum(f.stat().st_size for f in foreign.glob("model-*"))
    else:
        split(foreign, torch.save, "pytorch_model", ".bin")
        index = foreign / "pytorch_model.bin.index.json"
    convert(foreign, tmp_path / "new", to="hf")
    assert weights(tmp_path / "new") == weights(save_model(tmp_path / "expected", checkpoint()))
    content = json.loads(index.read_text(encoding="utf-8"))
    name, place = next(iter(content["weight_map"].items()))
    other = next(file for file in content["weight_map"].values() if file != place)
    for wrong, message in (
        ({name: other}, f"does not hold what {index.name} says: {name}"),
        ({name: "../secret.bin"}, r"names the file '../secret.bin', which is not in the folder"),
        ({name: 3}, "expected a weight_map from each tensor to the file"),
    ):
        index.write_text(json.dumps({"weight_map": content["weight_map"] | wrong}), encoding="utf-8")
        with pytest.raises(CheckpointError, match=message):
            convert(foreign, tmp_path / "again", to="hf")


def test_round_trips_are_bit_equal(saved: Path, tmp_path: Path) -> None:
    """Ours, TensorFlow, transformers, sentence-transformers: not one bit of a weight changes."""
    convert(saved, tmp_path / "tf", to="tf")
    convert(tmp_path / "tf", tmp_path / "hf", to="hf")
    convert(tmp_path / "hf", tmp_path / "st", to="st")
    convert(tmp_path / "st", tmp_path / "tf2", to="tf")
    assert weights(saved) == weights(tmp_path / "hf") == weights(tmp_path / "st")
    for file in (tmp_path / "tf").iterdir():
        if file.name != "integrity.json":
            assert file.read_bytes() == (tmp_path / "tf2" / file.name).read_bytes(), file.name
    assert describe(tmp_path / "hf")["lineage"]["converted_from"]["format"] == "google"
    assert describe(tmp_path / "st")["lineage"] == describe(tmp_path / "hf")["lineage"]


def test_padding_is_cut_back_and_said(foreign: Path, edit: Edit, tmp_path: Path) -> None:
    tensors = load_file(foreign / "model.safetensors")
    for name in ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias"):
        tensors[name] = torch.cat([tensors[name], torch.ones(3, *tensors[name].shape[1:])])
    save_file(
        tensors | {"cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"].clone()},
        foreign / "model.safetensors",
    )
    edit(foreign / "config.json", vocab_size=40)
    for to, config in (("hf", "config.json"), ("tf", "bert_config.json")):
        done = convert(foreign, tmp_path / to, to=to)
        assert json.loads((tmp_path / to / config).read_text(encoding="utf-8"))["vocab_size"] == 37
        assert "3 vectors of padding behind the 37 tokens are left out: no text has them" in done.remarks
        assert "tensors that the model does not use: cls.predictions.decoder.weight" in done.left_out


def test_half_precision_is_said(foreign: Path, tmp_path: Path) -> None:
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(foreign / "model.safetensors").items()}
    save_file(tensors, foreign / "model.safetensors")
    done = convert(foreign, tmp_path / "new", to="hf")
    assert "weights of the type BF16 are float32 from here on" in done.remarks
    written = load_file(tmp_path / "new" / "model.safetensors")
    assert all(torch.equal(written[name], tensor.float()) for name, tensor in tensors.items())


def test_a_twin_stands_in_for_its_original(foreign: Path, tmp_path: Path) -> None:
    """Of two tied tensors some writers keep the other one."""
    expected = load_model(foreign).model.state_dict()
    tensors = load_file(foreign / "model.safetensors")
    tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")
    save_file({f"module.{name}": tensor for name, tensor in tensors.items()}, foreign / "model.safetensors")
    found = load_model(foreign).model.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_decoder_sees_no_future(foreign: Path, edit: Edit, tmp_path: Path) -> None:
    edit(foreign / "config.json", is_decoder=True, architectures=["BertLMHeadModel"])
    assert load_model(foreign).model.config.encoder.masks == {"tokens": nn.Causal()}
    assert "a decoder: each token sees only itself and those before it" in describe(foreign)["missing"]
    with pytest.raises(CheckpointError, match=r"no form in transformers or sentence-transformers: .*full attention"):
        convert(foreign, tmp_path / "new", to="hf")
    assert not list(tmp_path.glob("*new*"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"to": "keras"}, UsageError, "There is no format 'keras'. Allowed: hf, onnx, st, tf"),
        ({"to": "hf", "head": "masked_lm"}, UsageError, "the format hf keeps all of them"),
        ({"to": "onnx", "head": "sentiment"}, UsageError, "This model has no head 'sentiment'"),
    ],
)
def test_used_wrongly(
    saved: Path, tmp_path: Path, arguments: dict[str, Any], error: type[BertsmithError], message: str
) -> None:
    with pytest.raises(error, match=message):
        convert(saved, tmp_path / "new", **arguments)
    assert not list(tmp_path.glob("*new*"))


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_nothing_is_written_over(saved: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "there"
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_text("mine", encoding="utf-8")
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="this already exists, and nothing is ever written over"):
        convert(saved, target, to="hf")


def test_missing_and_leftover_tensors_are_listed(foreign: Path, tmp_path: Path) -> None:
    tensors = load_file(foreign / "model.safetensors")
    tensors["bert.adapter.weight"] = torch.zeros(3, 5)
    del tensors["bert.pooler.dense.bias"]
    save_file(tensors, foreign / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        convert(foreign, tmp_path / "new", to="tf")
    assert "missing: bert.pooler.dense.bias [12]. unexpected: bert.adapter.weight [3, 5]" in str(error.value)


def test_the_command(pickled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*arguments])
        assert ended.value.code == 0
        return capsys.readouterr()

    run("convert", str(pickled), str(tmp_path / "one"), "--to", "hf")
    (line,) = run("convert", str(tmp_path / "one"), str(tmp_path / "two"), "--to", "st", "--json")[0].splitlines()
    done = json.loads(line)
    assert (done["source"], done["target"], done["to"]) == (str(tmp_path / "one"), str(tmp_path / "two"), "st")
    assert set(done["files"]) == {
        file.relative_to(tmp_path / "two").as_posix() for file in (tmp_path / "two").rglob("*") if file.is_file()
    }
    out, err = run("convert", str(tmp_path / "one"), str(tmp_path / "three"), "--to", "tf")
    assert "bert_model.ckpt.index" in out
    assert "Left out: pooling by 'mean': it has no place for it" in err
    with pytest.raises(SystemExit) as ended:
        main(["convert", str(tmp_path / "one"), str(tmp_path / "two"), "--to", "st"])
    assert ended.value.code == 2
    assert "this already exists" in capsys.readouterr().err
