import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.errors import DataError
from bertsmith.text import split_sentences


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        (
            "en",
            [
                "Dr. Smith paid $3.50, i.e. too much, on Jan. 5.",
                'He said "Hello there. How are you?" and left.',
                "Why?",
            ],
        ),
        ("de", ["Das kostet z.B. 3,50 Euro.", "Dr. Müller kam am 5. Januar an."]),
        ("zh", ["今天天气很好。", "我们去公园吧！", "你说呢？"]),
        ("ja", ["これは文です。", "次の文です。"]),
        ("hi", ["यह एक वाक्य है।", "यह दूसरा है।", "क्या यह तीसरा है?"]),
        ("ru", ["Он родился в 1799 г. в Москве.", "Потом уехал."]),
    ],
)
def test_sentences_of_several_languages(language, sentences):
    glue = "" if language in ("zh", "ja") else " "
    assert split_sentences(glue.join(sentences), language) == sentences


def test_lines_and_paragraphs():
    assert split_sentences(" one\ntwo. Three\n\nfour ") == ["one\ntwo.", "Three", "four"]
    assert split_sentences("") == split_sentences(" \n\n ") == []


def test_an_unknown_language_still_splits():
    assert split_sentences("Abc def. Ghi.", "xx") == ["Abc def.", "Ghi."]


@settings(max_examples=300)
@given(text=st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("aB .?!。\n\"'()“”")))
def test_nothing_but_white_space_is_lost(text):
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


def test_what_is_no_text_is_refused():
    with pytest.raises(DataError, match="half of a surrogate pair"):
        split_sentences("a\ud800. b")
    with pytest.raises(DataError, match="expected text"):
        split_sentences(None)  # pyright: ignore[reportArgumentType]
