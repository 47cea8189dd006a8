"""Each behaviour beside its reference: Google's own code, and Hugging Face's BertTokenizer."""

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.text import Tokenizer, Vocabulary

FRAGMENTS = [
    *(
        "[MASK]",
        "[CLS]",
        "[UNK]",
        "##ing",
        "mask",
        "a" * 99,
        "a" * 100,
        "a" * 101,
        "b" * 200,
        "c" * 201,
        "\u0130" * 100,
    ),
    *(
        "\u0301",
        "\u0327",
        "\u0344",
        "\u05b0",
        "Σ",
        "ΑΣ",
        "ΑΣ'Α",
        "İ",
        "ﬁ",
        "中",
        "豈",
        "\U0002b821",
        "\U0002b921",
        "한",
        "あ",
    ),
    *(
        "\x00",
        "\x0b",
        "\x1c",
        "\x85",
        "\xa0",
        "\xad",
        "\u200b",
        "\u2028",
        "\u3000",
        "\ufeff",
        "\ufffd",
        "\ue000",
        "\u061d",
    ),
    *(
        "don't",
        "U.S.",
        "$3.50",
        "unaffable",
        "élève",
        "straße",
        "Naïve",
        "WORLD",
        "😀",
        "👩\u200d👩\u200d👧",
        "—",
        "“q”",
        "\u1fef",
    ),
    *(" ", " ", "\n", "\t"),
]
TEXTS = st.lists(
    st.sampled_from(FRAGMENTS)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
    | st.text("abcdefghijklmnopqrstuvwxyzABCÉ .,'", max_size=12),
    max_size=12,
).map("".join)


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def lower_case(request):
    return request.param


@pytest.fixture(scope="module")
def full_tokenizer(google, uncased_file, lower_case):
    return google.FullTokenizer(str(uncased_file), do_lower_case=lower_case)


@pytest.fixture(scope="module")
def bert_tokenizer(uncased, lower_case):
    return transformers.BertTokenizer(vocab=dict(uncased.ids), do_lower_case=lower_case)


@pytest.fixture(scope="module")
def ours(uncased, lower_case):
    return {name: Tokenizer(uncased, lower_case=lower_case, behaviour=name) for name in ("google", "hf")}


@settings(max_examples=500)
@given(text=TEXTS)
def test_google_equals_the_original(ours, full_tokenizer, text):
    tokenizer = ours["google"]
    tokens = full_tokenizer.tokenize(text)
    encoding = tokenizer.encode(text)
    assert encoding.tokens == tokens
    assert encoding.ids == full_tokenizer.convert_tokens_to_ids(tokens)
    assert tokenizer.ids_batch([text])[0].tolist() == encoding.ids


@settings(max_examples=500)
@given(text=TEXTS)
def test_hf_equals_transformers(ours, bert_tokenizer, text):
    tokenizer = ours["hf"]
    expected = bert_tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    encoding = tokenizer.encode(text)
    assert encoding.ids == expected["input_ids"]
    assert encoding.offsets == expected["offset_mapping"]
    assert encoding.word_ids == expected.word_ids()
    assert tokenizer.ids_batch([text])[0].tolist() == encoding.ids


@settings(max_examples=200)
@given(first=TEXTS, second=TEXTS.filter(bool))  # transformers takes an empty second text for none
def test_hf_pairs_equal_transformers(ours, bert_tokenizer, first, second):
    expected = bert_tokenizer(first, second, verbose=False)
    encoding = ours["hf"].encode(first, second, special_tokens=True)
    assert encoding.ids == expected["input_ids"]
    assert encoding.type_ids == expected["token_type_ids"]
    assert encoding.word_ids == expected.word_ids()


@pytest.mark.parametrize("behaviour", ["google", "hf"])
@settings(max_examples=300)
@given(text=TEXTS)
def test_offsets_and_words_point_into_the_text(ours, behaviour, text):
    encoding = ours[behaviour].encode(text)
    starts = [start for start, _ in encoding.offsets]
    assert starts == sorted(starts)
    assert all(0 <= start < end <= len(text) for start, end in encoding.offsets)
    numbers = list(dict.fromkeys(encoding.word_ids))
    assert numbers == list(range(len(numbers)))
    assert len(encoding.word_offsets()) == len(numbers)


@pytest.mark.parametrize("behaviour", ["google", "hf"])
@settings(max_examples=200)
@given(text=st.text(st.characters(max_codepoint=127)))
def test_in_ascii_each_token_is_its_text(ours, behaviour, text):
    encoding = ours[behaviour].encode(text)
    for token, (start, end) in zip(encoding.tokens, encoding.offsets, strict=True):
        written = "".join(character for character in text[start:end] if character.isprintable())
        assert token == "[UNK]" or token.removeprefix("##") in (written, written.lower())


def test_the_example_of_the_paper(uncased):
    for behaviour in ("google", "hf"):
        encoding = Tokenizer(uncased, behaviour=behaviour).encode("electrodynamics")
        assert encoding.tokens == ["electro", "##dy", "##nami", "##cs"]
        assert encoding.offsets == [(0, 7), (7, 9), (9, 13), (13, 15)]
        assert encoding.word_ids == [0, 0, 0, 0]


def test_where_the_two_differ(uncased):
    google, hf = (Tokenizer(uncased, behaviour=name) for name in ("google", "hf"))
    assert google.encode("[MASK]").tokens == ["[", "mask", "]"]
    assert hf.encode("[MASK]").tokens == ["[MASK]"]
    assert len(google.encode("a" * 200)) > 1
    assert google.encode("a" * 201).tokens == hf.encode("a" * 101).tokens == ["[UNK]"]
    assert len(hf.encode("a" * 100)) > 1
    assert google.encode("ΑΣ").tokens == ["α", "##ς"]
    assert hf.encode("ΑΣ").tokens == ["α", "##σ"]


@pytest.mark.parametrize("name", ["bert-base-chinese", "scibert-scivocab-uncased"])
def test_other_public_vocabularies(public_vocabularies, google, name):
    text = "今天天气很好，我们去 Naïve 公园吧！ Enzyme kinetics of α-amylase\u2028were [MASK] measured at 37 °C."
    file = public_vocabularies / name / "vocab.txt"
    vocabulary = Vocabulary.load(file)
    original = google.FullTokenizer(str(file))
    expected = original.convert_tokens_to_ids(original.tokenize(text))
    assert Tokenizer(vocabulary, behaviour="google").encode(text).ids == expected
    peer = transformers.BertTokenizer(vocab=str(file))
    assert Tokenizer(vocabulary).encode(text).ids == peer(text, add_special_tokens=False)["input_ids"]
