"""Real weights to a TensorFlow checkpoint and back: not one bit of them changes on the way."""

from pathlib import Path

import pytest
import torch
import transformers

from bertsmith.checkpoints import google_folder, load_model, save_model
from bertsmith.checkpoints.tensor_bundle import TensorBundle


@pytest.fixture(scope="module")
def google(minilm_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real model as a folder of the original code."""
    folder = tmp_path_factory.mktemp("google") / "model"
    google_folder.save(load_model(minilm_path), folder)
    return folder


def test_every_tensor_is_that_of_transformers(minilm_path: Path, google: Path) -> None:
    """By a rule of names of its own: the one by which transformers 4 read such checkpoints."""
    theirs = transformers.BertModel.from_pretrained(minilm_path).state_dict()
    bundle = TensorBundle.open(google / "bert_model.ckpt")
    assert len(bundle.entries) == len(theirs) == 103
    for name in bundle.entries:
        path = name.removeprefix("bert/").replace("layer_", "layer/").replace("gamma", "weight").replace("beta", "bias")
        path = path if path.endswith(("kernel", "weight", "bias")) else f"{path}/weight"
        found = bundle.read(name)
        found = found.T if path.endswith("kernel") else found
        assert torch.equal(found, theirs[path.replace("kernel", "weight").replace("/", ".")]), name


def test_the_way_back_is_bit_equal(minilm_path: Path, google: Path, tmp_path: Path) -> None:
    again = save_model(tmp_path / "again", load_model(google))
    original = transformers.BertModel.from_pretrained(minilm_path).state_dict()
    back = transformers.BertModel.from_pretrained(again).state_dict()
    assert original.keys() == back.keys()
    assert all(torch.equal(original[name], back[name]) for name in original)
