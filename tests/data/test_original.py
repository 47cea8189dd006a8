"""The golden figures were taken from the original itself: its file in bert-tensorflow 1.0.4, and for whole words that of
May 2019, run by CPython 3 on `novels.txt` (public domain) with the uncased vocabulary."""

import hashlib
import json
from pathlib import Path

import pytest

from bertsmith.data import Example
from bertsmith.data.original import Original, features, original_instances
from bertsmith.errors import ConfigError, DataError
from bertsmith.text import Tokenizer, Vocabulary

NOVELS = Path(__file__).parent / "novels.txt"


@pytest.fixture(scope="module")
def google_tokenizer(real_tokenizer: Tokenizer) -> Tokenizer:
    return Tokenizer(real_tokenizer.vocabulary, behaviour="google")


def digest(examples: list[Example]) -> str:
    text = json.dumps([list(features(example).values()) for example in examples], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


GOLDEN = [
    (Original(), 239, 149, "ed98c5d716c17d4d"),
    (Original(do_whole_word_mask=True), 234, 140, "28397206709578f5"),
    (
        Original(max_seq_length=64, max_predictions_per_seq=10, dupe_factor=3, random_seed=7),
        104,
        77,
        "f28419c2179696fe",
    ),
    (
        Original(max_seq_length=512, max_predictions_per_seq=80, dupe_factor=3, random_seed=1, do_whole_word_mask=True),
        33,
        15,
        "d866c777f8cc1ed1",
    ),
    (
        Original(max_seq_length=16, short_seq_prob=0.9, masked_lm_prob=0.3, dupe_factor=2, do_whole_word_mask=True),
        109,
        108,
        "4cf7c4cae8622e91",
    ),
    (Original(max_seq_length=5, dupe_factor=2), 110, 110, "4eebc6450d873998"),
]


@pytest.mark.parametrize(("options", "count", "random", "sha256"), GOLDEN)
def test_the_instances_are_those_of_the_original(
    options: Original, count: int, random: int, sha256: str, google_tokenizer: Tokenizer
) -> None:
    made = original_instances(NOVELS, google_tokenizer, options)
    assert len(made) == count
    assert sum(features(example)["next_sentence_labels"][0] for example in made) == random
    assert digest(made) == sha256


def test_the_end_of_a_file_ends_no_document(google_tokenizer: Tokenizer, tmp_path: Path) -> None:
    lines = NOVELS.read_text(encoding="utf-8").splitlines(keepends=True)
    middle = lines.index('"Taxi or car?"\n')
    (tmp_path / "1.txt").write_text("".join(lines[:middle]), encoding="utf-8")
    (tmp_path / "2.txt").write_text("".join(lines[middle:]), encoding="utf-8")
    assert digest(original_instances(tmp_path, google_tokenizer)) == "ed98c5d716c17d4d"


def test_a_word_cut_by_truncation_hangs_on_the_word_before_the_separator() -> None:
    vocabulary = Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b"))
    a, b = vocabulary.ids["a"], vocabulary.ids["##b"]
    options = Original(do_whole_word_mask=True, max_predictions_per_seq=2, masked_lm_prob=0.5, dupe_factor=20)
    made = options.instances([[[b, a], [b]]], vocabulary)
    # [CLS] ##b a [SEP] ##b [SEP]: the words are {1} and {2, 4}, and two tokens may be chosen.
    chosen = {
        tuple(features(example)["masked_lm_positions"])
        for example in made
        if not example.targets["next_sentence_label"]
    }
    assert chosen == {(1,), (2, 4)}


def test_what_cannot_be_done_is_said(google_tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"no text in .*empty\.txt"):
        original_instances(tmp_path / "empty.txt", google_tokenizer)
    with pytest.raises(ConfigError, match="max_seq_length"):
        Original(max_seq_length=4)
