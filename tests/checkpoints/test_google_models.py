import pytest

from bertsmith.checkpoints.google_models import PUBLISHED, published_as, shaped_like, tell_casing
from bertsmith.errors import CheckpointError
from bertsmith.text import SPECIAL_TOKENS, Vocabulary

UNCASED = Vocabulary((*SPECIAL_TOKENS, "[unused0]", "a", "##b", "été", "北", "1"))
CASED = Vocabulary((*SPECIAL_TOKENS, "[unused0]", "a", "##B", "Été", "北", "1"))


def test_the_published_list() -> None:
    names = [model.name for model in PUBLISHED]
    assert len(set(names)) == len(names) == 32
    assert {
        "uncased_L-12_H-768_A-12",
        "uncased_L-24_H-1024_A-16",
        "cased_L-12_H-768_A-12",
        "cased_L-24_H-1024_A-16",
        "wwm_uncased_L-24_H-1024_A-16",
        "wwm_cased_L-24_H-1024_A-16",
        "multi_cased_L-12_H-768_A-12",
        "multilingual_L-12_H-768_A-12",
        "chinese_L-12_H-768_A-12",
        "uncased_L-2_H-128_A-2",
        "uncased_L-4_H-256_A-4",
        "uncased_L-10_H-768_A-12",
        "uncased_L-12_H-512_A-8",
    } <= set(names)
    assert [model.family for model in PUBLISHED if not model.lower_case] == [
        "cased",
        "cased",
        "wwm_cased",
        "multi_cased",
    ]
    for model in PUBLISHED:
        assert ("uncased" in model.name or model.family in ("multilingual", "chinese")) == model.lower_case


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("uncased_L-12_H-768_A-12", "uncased_L-12_H-768_A-12"),
        ("cased_L-12_H-768_A-12", "cased_L-12_H-768_A-12"),
        ("wwm_uncased_L-24_H-1024_A-16", "wwm_uncased_L-24_H-1024_A-16"),
        ("2018_uncased_L-2_H-128_A-2.old", "uncased_L-2_H-128_A-2"),
        ("UNCASED_L-2_H-128_A-2", "uncased_L-2_H-128_A-2"),
        ("uncased_L-12_H-768_A-120", None),
        ("uncased_L-3_H-128_A-2", None),
        ("model", None),
    ],
)
def test_a_folder_has_the_name_of_a_published_model(folder: str, name: str | None) -> None:
    published = published_as(folder)
    assert (published.name if published else None) == name


def test_models_of_the_same_sizes() -> None:
    names = [m.name for m in shaped_like(vocab_size=28996, num_hidden_layers=24, hidden_size=1024)]
    assert names == ["cased_L-24_H-1024_A-16", "wwm_cased_L-24_H-1024_A-16"]
    assert shaped_like(vocab_size=30522, num_hidden_layers=6, hidden_size=384) == []


@pytest.mark.parametrize(
    ("folder", "vocabulary", "lower_case", "reason"),
    [
        (
            "uncased_L-2_H-128_A-2",
            UNCASED,
            True,
            "uncased, because uncased_L-2_H-128_A-2 is Google's BERT-Tiny, Uncased",
        ),
        ("chinese_L-12_H-768_A-12", UNCASED, True, "is Google's BERT-Base, Chinese"),
        ("multi_cased_L-12_H-768_A-12", CASED, False, "cased, because multi_cased_L-12_H-768_A-12 is Google's"),
        ("scibert_scivocab_uncased", UNCASED, True, "uncased, because the folder is called scibert_scivocab_uncased"),
        ("BERT-Cased", CASED, False, "cased, because the folder is called BERT-Cased"),
        ("biobert_v1.1_pubmed", CASED, False, "cased, because 2 of the 11 tokens in vocab.txt have capital letters"),
        ("showcased", UNCASED, True, "uncased, because 0 of the 11 tokens in vocab.txt have capital letters"),
    ],
)
def test_casing_is_told(folder: str, vocabulary: Vocabulary, lower_case: bool, reason: str) -> None:
    told, why = tell_casing(folder, vocabulary)
    assert told is lower_case
    assert reason in why


@pytest.mark.parametrize(
    ("folder", "vocabulary"),
    [("cased_L-12_H-768_A-12", UNCASED), ("uncased_L-12_H-768_A-12", CASED), ("my-cased", UNCASED)],
)
def test_a_name_against_the_vocabulary_is_refused(folder: str, vocabulary: Vocabulary) -> None:
    with pytest.raises(CheckpointError, match=f"name of the folder {folder} says .*do_lower_case"):
        tell_casing(folder, vocabulary)
