"""The command line as a person uses it: the whole chain, and every mistake with one clear message."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertsmith.cli import VERBS, main

SMALL = [
    "encoder.hidden_size=16",
    "stages.0.steps=30",
    "stages.0.length=32",
    "stages.0.batch_size=8",
    "stages.0.schedule.peak=0.005",
    "stages.0.schedule.warmup_steps=3",
]


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> tuple[str, str]:
    """What a command prints on stdout and on stderr; it must end with `code`."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert ended.value.code == code, err
    assert "Traceback" not in err
    return out, err


def overrides() -> list[str]:
    return [part for each in SMALL for part in ("--set", each)]


@pytest.fixture(scope="module")
def chain(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vocabulary, shards, a pretrained and a fine-tuned model, made by the commands themselves."""
    root = tmp_path_factory.mktemp("chain")
    for name, first in (("train", 0), ("dev", 3)):
        with (root / f"{name}.tsv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t")
            writer.writerow(["text", "label"])
            for number in range(first, 40):
                water = number % 2
                writer.writerow([f"the {'river' if water else 'bread'} number {number}", "water" if water else "food"])
    commands = [
        ["vocab", corpus, "--size", 150, "-o", root / "vocabulary"],
        ["prepare", corpus, "--vocab", root / "vocabulary", "-o", root / "shards", "--heldout", 0.1],
        ["pretrain", "demo:reviews", "--data", root / "shards", "-o", root / "run", *overrides()],
        [
            *(
                "finetune",
                "classify",
                "--model",
                root / "run",
                "--train",
                root / "train.tsv",
                "--dev",
                root / "dev.tsv",
            ),
            *("-o", root / "tuned", "--epochs", 2, "--seed", 1, "--seed", 2),
        ],
    ]
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main([str(part) for part in command])
        assert ended.value.code == 0, command
    return root


def test_the_chain_leaves_whole_folders(chain: Path) -> None:
    for folder in ("vocabulary", "shards", "run/model", "tuned/model"):
        assert (chain / folder).is_dir()
    assert not [path for path in chain.rglob(".*") if path.name.startswith((".shards", ".model", ".vocabulary"))]


def test_fill(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "fill", "--model", chain / "run", "the [MASK] stood by the [MASK].", "-k", 3, "--json")
    (line,) = out.splitlines()
    masks = json.loads(line)["masks"]
    assert [len(mask) for mask in masks] == [3, 3]
    assert masks[0][0]["probability"] >= masks[0][1]["probability"] > 0
    out, _ = run(capsys, "fill", "--model", chain / "run", "the old [MASK].")
    assert "the old [MASK]." in out and "%" in out


def test_embed(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "embed", "--model", chain / "run", "--text", "the mill", "--text", "the river")
    assert [len(json.loads(line)["vector"]) for line in out.splitlines()] == [16, 16]
    (tmp_path / "texts.txt").write_text("the mill\nthe river\n", encoding="utf-8")
    run(capsys, "embed", "--model", chain / "run", tmp_path / "texts.txt", "-o", tmp_path / "vectors.parquet")
    assert pq.read_table(tmp_path / "vectors.parquet").num_rows == 2


def test_embed_a_table_as_asked(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["embed", "--model", chain / "run", "--pooling", "mean_max", "--layers", "-2,-1", "--normalize"]
    asked += ["--dimensions", 30, "--long", "windows"]
    vectors = tmp_path / "vectors.arrow"
    _, said = run(capsys, *asked, chain / "dev.tsv", "-o", vectors, "--keep", "label", "--dtype", "float16")
    assert said.count("Pooling: mean_max (as asked for), layers -2, -1 concatenated; vectors of 30, normalized.") == 1
    assert "37 vectors of 30, from 37 texts (text = column 'text')." in said
    with pa.OSFile(str(vectors)) as file:
        table = pa.ipc.open_file(file).read_all()
    assert table.column_names == ["line", "text", "label", "vector", "truncated", "windows"]
    assert table.schema.field("vector").type == pa.list_(pa.float16(), 30)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the mill\n\nthe river\n"), encoding="utf-8"))
    out, _ = run(capsys, *asked, "--words", "-", "-o", "-")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [[word["word"] for word in line["words"]] for line in lines] == [["the", "mill"], [], ["the", "river"]]
    for wrong in (["--dtype", "float16"], ["--cluster", "ray"], ["--keep", "label"]):
        assert "--" in run(capsys, *asked, "--text", "the mill", *wrong, code=2)[1]
    _, said = run(capsys, "embed", "--model", chain / "run", "--text", "mill " * 600)
    assert "1 texts were cut to the model's length" in said
    out, _ = run(capsys, *asked, "--text", "the mill", "--pair", "the river")
    assert {"text": "the mill", "pair": "the river"}.items() <= json.loads(out).items()


def test_predict_and_evaluate(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new.txt").write_text("the river\nthe bread\n", encoding="utf-8")
    out, _ = run(capsys, "predict", "--model", chain / "tuned", tmp_path / "new.txt")
    predictions = [json.loads(line) for line in out.splitlines()]
    assert [set(p["probabilities"]) for p in predictions] == [{"food", "water"}] * 2
    out, err = run(capsys, "evaluate", "--model", chain / "tuned", chain / "dev.tsv", "--json")
    found = json.loads(out)
    assert found["count"] == 37 and 0 <= found["metrics"]["accuracy"] <= 1
    assert "label" in err  # says which columns it took
    out, _ = run(capsys, "evaluate", "--model", chain / "tuned", chain / "dev.tsv")
    assert "true \\ predicted" in out and "majority class" in out


def test_models(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "models", "list", chain)
    assert "run" in out and "tuned" in out
    out, _ = run(capsys, "models", "show", chain / "tuned", "--json")
    assert json.loads(out)["parameters"] > 1000
    run(capsys, "models", "show", chain / "run")


def test_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "recipes", "list")
    assert "bert:base" in out and "12 layers" in out
    out, _ = run(capsys, "recipes", "show", "bert:tiny", "--set", "seed=7")
    assert json.loads(out)["seed"] == 7
    out, _ = run(capsys, "recipes", "diff", "bert:tiny", "bert:mini")
    assert "encoder.hidden_size" in out and "256" in out


def test_dry_run_and_resume(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ("pretrain", "demo:reviews", "--data", chain / "shards", "-o", tmp_path / "run", *overrides())
    out, _ = run(capsys, *start, "--dry-run")
    assert "parameters" in out and not (tmp_path / "run").exists()
    run(capsys, *start)
    _, err = run(capsys, *start, code=2)
    assert "--resume" in err
    run(capsys, *start, "--resume")
    weights = "model/model.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() == (chain / "run" / weights).read_bytes()


def test_help_names_the_library_call(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "--help")
    assert [verb for verb in VERBS if verb not in out] == []
    for verb in VERBS:
        out, _ = run(capsys, verb, "--help")
        assert "Library call" in out or verb in ("recipes", "models")
    for group, verb in (
        ("recipes", "list"),
        ("recipes", "show"),
        ("recipes", "diff"),
        ("models", "list"),
        ("models", "show"),
        ("vocab", "learn"),
        ("vocab", "extend"),
    ):
        assert "Library call" in run(capsys, group, verb, "--help")[0]


def mistakes(chain: Path, corpus: Path, folder: Path) -> dict[str, tuple[list[object], int, str]]:
    """Command, exit code, and what the message must say."""
    out = folder / "out"
    (folder / "begun").mkdir(exist_ok=True)
    (folder / "begun" / "run.json").write_text("{}", encoding="utf-8")
    (folder / "empty.txt").write_text(" \n\n", encoding="utf-8")
    (folder / "latin.txt").write_bytes("ein schöner Tag\n".encode("latin-1"))
    (folder / "odd.tsv").write_text("text\tlabel\nthe river\tlava\nthe bread\tfood\n", encoding="utf-8")
    vocabulary, shards, model = chain / "vocabulary", chain / "shards", chain / "run"
    finetune = ["finetune", "classify", "--model", model, "--train", chain / "train.tsv"]
    return {
        "no such verb": (["vokab"], 2, "No such command 'vokab'"),
        "unknown option": (["vocab", corpus, "--size", 150, "-o", out, "--sise", 3], 2, "No such option: --sise"),
        "missing option": (["vocab", corpus, "-o", out], 2, "Missing option '--size'"),
        "missing file": (["vocab", folder / "nowhere.txt", "--size", 150, "-o", out], 1, "nowhere.txt"),
        "empty text": (["vocab", folder / "empty.txt", "--size", 150, "-o", out], 1, "empty.txt"),
        "empty text to shards": (["prepare", folder / "empty.txt", "--vocab", vocabulary, "-o", out], 1, "empty.txt"),
        "not UTF-8": (["prepare", folder / "latin.txt", "--vocab", vocabulary, "-o", out], 1, "not UTF-8"),
        "vocabulary too large": (["vocab", corpus, "--size", 9000, "-o", out], 1, "at most"),
        "vocabulary too small": (["vocab", corpus, "--size", 9, "-o", out], 1, "at least"),
        "no such behaviour": (["vocab", corpus, "--size", 150, "-o", out, "--behaviour", "hff"], 2, "google"),
        "no such recipe": (["pretrain", "bert:bas", "--data", shards, "-o", out], 2, "Did you mean 'bert:base'?"),
        "no such path": (
            ["pretrain", "bert:tiny", "--data", shards, "-o", out, "--set", "stages.0.step=3"],
            2,
            "Did you mean 'steps'?",
        ),
        "wrong type": (
            ["pretrain", "bert:tiny", "--data", shards, "-o", out, "--set", "stages.0.steps=many"],
            2,
            "stages.0.steps: expected a value of type int, got 'many'",
        ),
        "out of range": (
            ["pretrain", "bert:tiny", "--data", shards, "-o", out, "--set", "stages.0.steps=0"],
            2,
            "stages.0.steps: expected at least 1",
        ),
        "no such device": (
            ["pretrain", "bert:tiny", "--data", shards, "-o", out, "--device", "abacus"],
            2,
            "There is no device 'abacus' here. There is: cpu",
        ),
        "never saved": (["pretrain", "bert:tiny", "--data", shards, "-o", out, "--save-every", 0], 2, "save_every"),
        "no shards": (["pretrain", "bert:tiny", "--data", folder / "none", "-o", out], 1, "none"),
        "no such model": (["fill", "--model", folder / "none", "a [MASK]"], 1, "no such folder"),
        "nothing to fill": (["fill", "--model", model, "a b"], 2, "no [MASK]"),
        "no masked-LM head": (["fill", "--model", chain / "tuned", "a [MASK]"], 2, "no masked-LM head"),
        "not fine-tuned": (["predict", "--model", model, chain / "dev.tsv"], 2, "not fine-tuned"),
        "unseen label": (["evaluate", "--model", chain / "tuned", folder / "odd.tsv"], 1, "lava"),
        "unseen label in dev": ([*finetune, "--dev", folder / "odd.tsv", "-o", out], 1, "lava"),
        "no such task": (
            ["finetune", "clasify", "--model", model, "--train", "a", "--dev", "b", "-o", out],
            2,
            "Did you mean 'classify'?",
        ),
        "no such column": ([*finetune, "--dev", chain / "dev.tsv", "-o", out, "--text", "body"], 1, "body"),
        "no such layer": (["embed", "--model", model, "--text", "a", "--layers", "9"], 2, "there is no layer 9"),
        "no number of a layer": (["embed", "--model", model, "--text", "a", "--layers", "top"], 2, "-2 or -2,-1"),
        "no such pooling": (["embed", "--model", model, "--text", "a", "--pooling", "meen"], 2, "Did you mean 'mean'"),
        "no name for vectors": (
            ["embed", "--model", model, corpus, "-o", folder / "vectors.csv"],
            2,
            "Choose a name that ends in .parquet",
        ),
        "a table to learn from": (["vocab", chain / "train.tsv", "--size", 150, "-o", out], 1, "this is a table"),
        "unfinished run": (["fill", "--model", folder / "begun", "a [MASK]"], 1, "not finished"),
        "other recipe": (
            ["pretrain", "bert:tiny", "--data", shards, "-o", model, "--resume"],
            2,
            "was begun with another recipe (name was",
        ),
        "refused in advance": (
            ["pretrain", "bert:tiny", "--data", shards, "-o", out, "--from", model, "--dry-run"],
            1,
            "not shaped like",
        ),
        "nothing to embed": (["embed", "--model", model], 2, "--text"),
    }


CASES = [
    "no such verb", "unknown option", "missing option", "missing file", "empty text", "empty text to shards", "not UTF-8",
    "vocabulary too large", "vocabulary too small", "no such behaviour", "no such recipe", "no such path", "wrong type",
    "out of range", "no such device", "never saved",
    "no shards", "no such model", "nothing to fill", "no masked-LM head", "not fine-tuned",
    "unseen label", "unseen label in dev", "no such task", "no such column",
    "no such layer", "no number of a layer", "no such pooling",
    "no name for vectors", "a table to learn from", "unfinished run", "other recipe",
    "refused in advance", "nothing to embed",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_gives_one_clear_message(
    chain: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    command, code, message = mistakes(chain, corpus, tmp_path)[case]
    before = sorted(path.name for path in tmp_path.iterdir())
    out, err = run(capsys, *command, code=code)
    assert out == ""
    assert message in err
    assert err.count("Error: ") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before, "something was left behind"


def test_every_mistake_is_tried(chain: Path, corpus: Path, tmp_path: Path) -> None:
    assert list(mistakes(chain, corpus, tmp_path)) == CASES


def test_as_a_program(chain: Path) -> None:
    """The installed command: data on stdout, talk on stderr, and quiet when its reader leaves."""
    command = [sys.executable, "-m", "bertsmith", "recipes", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "bert:tiny" in done.stdout and done.stderr == ""
    version = subprocess.run(
        [sys.executable, "-m", "bertsmith", "--version"], capture_output=True, text=True, check=True
    )
    assert version.stdout.startswith("bertsmith 0.")
