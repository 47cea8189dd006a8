"""What `bertsmith models show` says of folders of every format, for people and for programs."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bertsmith.checkpoints import Checkpoint, convert, save_model
from bertsmith.cli import main
from bertsmith.nn import Model
from bertsmith.recipes import bert
from bertsmith.text import SPECIAL_TOKENS, Tokenizer, Vocabulary

SAID = {
    "bertsmith": "lineage                  recipe bert:mill",
    "huggingface": "embedding                mean pooling, normalized; prompts, which are not applied: query",
    "pickle": "weights                  pytorch_model.bin, ",
    "google": "format                   google",
}


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """One model in every format."""
    tokenizer = Tokenizer(Vocabulary((*SPECIAL_TOKENS, *(f"w{i}" for i in range(32)))))
    encoder = bert.encoder(12, 1, 2)
    config = Model.Config(encoder=type(encoder)(**{**vars(encoder), "vocab_size": 37}))
    checkpoint = Checkpoint(
        model=config.initialized(3),
        tokenizer=tokenizer,
        normalize=True,
        lineage={"recipe": {"name": "bert:mill"}},
        sentence={"prompts": {"query": "query: "}},
    )
    places = {name: tmp_path / name for name in SAID}
    for name in ("bertsmith", "huggingface", "pickle"):
        save_model(places[name], checkpoint)
    convert(places["bertsmith"], places["google"], to="tf")
    for name in ("huggingface", "pickle"):
        for file in ("bertsmith.json", "integrity.json"):
            (places[name] / file).unlink()
    weights = places["pickle"] / "model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    return places


@pytest.mark.parametrize("name", SAID)
def test_show(folders: dict[str, Path], capsys: pytest.CaptureFixture[str], name: str) -> None:
    for arguments in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main(["models", "show", str(folders[name]), *arguments])
        assert ended.value.code == 0
        out, err = capsys.readouterr()
        if arguments:
            model = json.loads(out)
            assert (model["sizes"]["hidden_size"], model["parameters"]) == (12, 8676)
            assert model["tokenizer"]["behaviour"] == "hf"
        else:
            assert SAID[name] in out
            assert "tokenizer                uncased, hf behaviour, 37 tokens, at most 512 at a time" in out
            assert "no masked-LM head" in err
            assert ("only `bertsmith convert` reads them" in err) == (name == "pickle")
