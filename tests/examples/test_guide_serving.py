"""The commands and the Python of docs/guides/serving.md work as they stand there, on another port."""

import json
import re
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lancedb", reason="the extra [search] is not installed")
pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")

import bertsmith
from bertsmith.checkpoints import Checkpoint, save_model
from bertsmith.cli import app
from bertsmith.data import learn_tokenizer
from bertsmith.nn import MaskedLMHead, Model, SequenceHead
from bertsmith.recipes import bert
from bertsmith.retrieval import index_files
from bertsmith.serve import House, Limits, ServeOptions, Server
from bertsmith.serve.logs import silent_log

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "serving.md").read_text(encoding="utf-8")


@pytest.fixture
def port(corpus: Path, tmp_path: Path) -> Iterator[int]:
    """A server of a model, a cross-encoder, a classifier and an index."""
    tokenizer = learn_tokenizer(corpus, 120).tokenizer
    encoder = bert.tiny().model(120).encoder
    plain = Model.Config(encoder=encoder, heads={"masked_lm": MaskedLMHead.Config()})
    heads = {"sequence_label": SequenceHead.Config(num_labels=2)}
    labelled = Model.Config(encoder=encoder, heads=heads)
    save_model(tmp_path / "model", Checkpoint(model=plain.initialized(3), tokenizer=tokenizer))
    for name, kind in (("pairs", "pair"), ("labels", "classify")):
        task = {"kind": kind, "labels": ["0", "1"]}
        save_model(tmp_path / name, Checkpoint(model=labelled.initialized(4), tokenizer=tokenizer, task=task))
    (tmp_path / "a.csv").write_text(
        "id,year,text\n1,1950,drag\n2,1957,slender wings\n3,1960,shocks\n", encoding="utf-8"
    )
    models = [bertsmith.load(tmp_path / name) for name in ("model", "pairs", "labels")]
    index_files(models[0], [tmp_path / "a.csv"], tmp_path / "abstracts.index")
    finder = bertsmith.open_index(tmp_path / "abstracts.index", models[0])
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(House(models, finder, ServeOptions(limits=Limits(drain=0)), log=silent_log))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listener.getsockname()[1]
    server.leave()
    thread.join(20)


def test_the_commands_of_curl(port: int) -> None:
    answers: dict[str, Any] = {}
    for command in re.findall(r"^    (curl .*)$", GUIDE, flags=re.MULTILINE):
        words = shlex.split(command.replace("localhost:8000", f"127.0.0.1:{port}"))
        done = subprocess.run(
            [*words, "-sS", "--fail-with-body"], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, (command, done.stdout)
        answers[words[1].rpartition("/")[2]] = json.loads(done.stdout)
    assert len(answers["embed"]) == 2
    assert len(answers["fill"]["masks"]) == 1
    assert {one["label"] for one in answers["predict"]} == {"0", "1"}
    assert {one["index"] for one in answers["rerank"]} == {0, 1}
    assert [hit["id"] for hit in answers["search"]["hits"]] in (["2", "3"], ["3", "2"])


def test_the_python(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, flags=re.DOTALL | re.MULTILINE)
    exec(compile(block.replace(":8000", f":{port}"), "guide", "exec"), {})
    assert capsys.readouterr().out.split()[0] == "model"


def test_the_options_are_there() -> None:
    import typer

    command = typer.main.get_command(app).commands["serve"]  # pyright: ignore[reportAttributeAccessIssue]
    known = {name for option in command.params for name in option.opts}
    used = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", GUIDE))
    assert used <= known
