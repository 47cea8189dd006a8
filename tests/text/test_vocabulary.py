import dataclasses
import hashlib

import numpy as np
import pytest

from bertsmith.errors import VocabularyError
from bertsmith.text import SPECIAL_TOKENS, Vocabulary

TOKENS = (*SPECIAL_TOKENS, "a", "##b", "", "é", "##")


def test_ids_are_positions():
    vocabulary = Vocabulary(TOKENS)
    assert len(vocabulary) == 10
    assert [vocabulary.ids[token] for token in TOKENS] == list(range(10))
    special = (vocabulary.pad_id, vocabulary.unk_id, vocabulary.cls_id, vocabulary.sep_id, vocabulary.mask_id)
    assert special == (0, 1, 2, 3, 4)
    assert vocabulary.special_ids == {0, 1, 2, 3, 4}


def test_arrays_mark_special_and_continuing_tokens():
    vocabulary = Vocabulary(TOKENS)
    np.testing.assert_array_equal(np.flatnonzero(vocabulary.is_special), [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(np.flatnonzero(vocabulary.is_continuation), [6])
    with pytest.raises(ValueError, match="read-only"):
        vocabulary.is_special[0] = False


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Vocabulary(TOKENS).tokens = ()  # pyright: ignore[reportAttributeAccessIssue]


def test_round_trip_in_a_folder_with_a_foreign_name(tmp_path):
    folder = tmp_path / "словарь 词"
    folder.mkdir()
    vocabulary = Vocabulary(TOKENS)
    file = vocabulary.save(folder)
    assert file == folder / "vocab.txt"
    assert Vocabulary.load(folder) == Vocabulary.load(file) == vocabulary
    assert hashlib.sha256(file.read_bytes()).hexdigest() == vocabulary.sha256
    assert file.read_bytes() == "".join(f"{token}\n" for token in TOKENS).encode()


def test_lines_are_stripped_and_keep_their_numbers(tmp_path):
    file = tmp_path / "vocab.txt"
    file.write_bytes("[PAD]\r\n[UNK] \n\t[CLS]\n\u2028\n[SEP]\n[MASK]\nx\u2028y\u0085z".encode())
    assert Vocabulary.load(file).tokens == ("[PAD]", "[UNK]", "[CLS]", "", "[SEP]", "[MASK]", "x\u2028y\u0085z")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"vocab\.txt, line 1: end of the vocabulary, and it has no \[PAD\] \[UNK\]"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nmask\n", r"line 6: .* has no \[MASK\]"),
        (b"[PAD]\na\n[UNK]\na \n", r"line 4: the token 'a' already stands in line 2"),
        (b"[PAD]\n\xff\n", r"line 2: not UTF-8"),
        (b"\xef\xbb\xbf[PAD]\n", r"line 1: starts with a byte order mark"),
        (b"[PAD]\n" + b"x" * 1001 + b"\n", r"line 2: 1,001 characters long"),
    ],
)
def test_what_is_no_vocabulary_is_refused_with_its_line(tmp_path, content, message):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(VocabularyError, match=message):
        Vocabulary.load(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VocabularyError, match=r"nowhere\.txt: cannot be read"):
        Vocabulary.load(tmp_path / "nowhere.txt")


@pytest.mark.parametrize("token", [" a", "a\nb"])
def test_a_token_that_no_line_can_hold_is_refused(token):
    with pytest.raises(VocabularyError, match="line 6"):
        Vocabulary((*SPECIAL_TOKENS, token))


@pytest.mark.parametrize(
    ("name", "size", "blank"),
    [
        ("bert-base-uncased", 30_522, None),
        ("bert-base-chinese", 21_128, 343),
        ("scibert-scivocab-uncased", 31_090, 30_106),
    ],
)
def test_public_vocabularies_load_as_the_original_reads_them(public_vocabularies, google, name, size, blank):
    vocabulary = Vocabulary.load(public_vocabularies / name)
    assert len(vocabulary) == size
    assert vocabulary.ids.get("") == blank
    assert vocabulary.ids == dict(google.load_vocab(str(public_vocabularies / name / "vocab.txt")))
