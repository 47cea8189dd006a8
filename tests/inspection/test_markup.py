"""Nothing that is not markup becomes markup."""

import json
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from bertsmith.inspection.markup import Html, data_block, element, join, safe, visible

NASTY = st.text(st.sampled_from("<>&\"'/!-= \u0000\u202e\u2028\ufeffscriptjavaimgonerror:()"), max_size=40)


class Seen(HTMLParser):
    """Every tag and text that a parser finds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(NASTY, NASTY)
def test_text_and_attributes_stay_what_they_are(text: str, value: str) -> None:
    seen = Seen(element("p", text, title=value))
    assert seen.tags == [("p", [("title", visible(value))])]
    assert seen.text == visible(text)


@given(NASTY)
def test_data_ends_no_script_and_is_read_as_it_was(text: str) -> None:
    block = data_block({"text": text})
    assert block.count("<") == 2 and block.isascii()
    assert json.loads(block.removeprefix('<script type="application/json">').removesuffix("</script>")) == {
        "text": text
    }


def test_markup_passes_and_strings_do_not() -> None:
    assert join(Html("<b>"), "<b>") == "<b>&lt;b&gt;"
    assert element("a", "x", class_="y", aria_label="z", href=None) == '<a class="y" aria-label="z">x</a>'
    assert element("br") == "<br>"
    assert isinstance(safe("x"), Html)


def test_invisible_characters_are_shown() -> None:
    assert visible("a\x00b\x1f\x7f") == "a␀b␟␡"
    assert visible("\u202eabc\u200b\ufeff\u2028") == "[U+202E]abc[U+200B][U+FEFF][U+2028]"
    assert visible("\ud800") == "[U+D800]"
    assert visible("naïve 漢字 مرحبا\n\tx") == "naïve 漢字 مرحبا\n\tx"
