"""The examples and the README's Python run as they stand, on small files."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
README = EXAMPLES.parent / "README.md"
SMALL = ["stages.0.steps=12", "stages.0.length=32", "encoder.hidden_size=24", "encoder.layers.0.count=1"]


def run(name: str, *arguments: object) -> str:
    return python(EXAMPLES / name, *arguments)


def python(*arguments: object, cwd: Path | None = None) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def own_bert(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, made by the example that makes one."""
    from bertsmith.data import learn_tokenizer

    out = tmp_path_factory.mktemp("examples")
    with pytest.raises(Exception, match="at most"):
        learn_tokenizer(corpus, 300)  # the small corpus has fewer; the example is run on a larger one
    text = out / "text.txt"
    syllables = [a + b for a in "bdfglmnprst" for b in "aeiou"]
    words = [a + b + c for a in syllables for b in syllables[::7] for c in ("", "n", "st")]
    lines = [" ".join(words[(i * 37 + j * j) % len(words)] for j in range(12)) + "." for i in range(600)]
    text.write_text("\n".join(line + ("\n" if i % 12 == 11 else "") for i, line in enumerate(lines)), encoding="utf-8")
    said = run("02_your_own_bert.py", text, out, *SMALL)
    assert "masked-LM loss" in said and "<bertsmith model" in said
    return out / "run"


def test_fill_and_embed(own_bert: Path) -> None:
    said = run("01_fill_and_embed.py", own_bert)
    assert "%" in said and "float32" in said


def test_vectors(own_bert: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a film.\n\na play.\n", encoding="utf-8")
    said = run("11_vectors.py", own_bert, tmp_path / "texts.txt", tmp_path / "v.parquet")
    assert "play and play: [[26, 30], [34, 38]]" in said
    assert f"3 texts to {tmp_path / 'v.parquet'}, 0 read in windows, 1 empty" in said


def test_classify(own_bert: Path, tmp_path: Path) -> None:
    for name in ("train", "dev"):
        rows = [f"{'what a' if i % 2 else 'the'} film number {i}\t{'opinion' if i % 2 else 'fact'}" for i in range(24)]
        (tmp_path / f"{name}.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n", encoding="utf-8")
    said = run("03_classify.py", own_bert, tmp_path / "train.tsv", tmp_path / "dev.tsv", tmp_path / "out")
    assert "without pretraining" in said and "opinion" in said


def test_look_inside(own_bert: Path, tmp_path: Path) -> None:
    said = run("04_look_inside.py", own_bert, tmp_path / "page.html")
    assert "river" in said or "quiet" in said
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_like_google(corpus: Path, shard_folder: Path) -> None:
    said = run("05_like_google.py", corpus, shard_folder / "tokenizer", "dupe_factor=2", "do_whole_word_mask=true")
    first = json.loads(said.splitlines()[0])
    assert len(first["input_ids"]) == len(first["segment_ids"]) <= 128
    assert len(first["masked_lm_positions"]) == len(first["masked_lm_ids"]) <= 20


@pytest.mark.parametrize("name", ["06_tag.py", "07_answers.py", "08_choose.py", "09_labels_and_numbers.py"])
def test_tasks(
    own_bert: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the files that lie beside them; in this process, because each would import everything anew."""
    said = {
        "06_tag.py": ["labels: O", "of 3 seeds", "('Chicago', '"],
        "07_answers.py": ["dev f1", "windows: Candidate(text='"],
        "08_choose.py": ["dev accuracy", "ball. {'0': 0."],
        "09_labels_and_numbers.py": ["dev micro_f1", "dev accuracy", "dev spearman"],
    }
    monkeypatch.setattr(sys, "argv", [name, str(own_bert), str(tmp_path / "out")])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    shown = capsys.readouterr().out
    assert [part for part in said[name] if part not in shown] == []


def test_search(
    own_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lancedb", reason="the extra [search] is not installed")
    monkeypatch.setattr(sys, "argv", ["10_search.py", str(own_bert), str(tmp_path / "index")])
    runpy.run_path(str(EXAMPLES / "10_search.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "replaced one of the same id" in said and "of those that have a labels" in said
    assert "recall of the search by vectors: 100.0%" in said


def test_every_example_is_run_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in text] == []


def test_the_readme_code_runs(own_bert: Path, tmp_path: Path) -> None:
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "pretraining").symlink_to(own_bert)
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert blocks, "the README shows no Python"
    for block in blocks:
        said = python("-c", block, cwd=tmp_path)
        assert said.splitlines()[-1] == "(2, 24)"
        assert said.count("%") == 3
