from pathlib import Path

import pytest

from bertsmith.data import prepare
from bertsmith.data.languages import CODES, TOO_SHORT, check_language, identify
from bertsmith.data.quality import FIGURES, figures
from bertsmith.errors import UsageError
from bertsmith.text import Tokenizer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0, 0, 0, 0, 0)),
        ("Ab 12,\n\nAb 12,\n \tc", (11, 5, 4, 2, 3, 1)),
        ("naïve e\u0301 \u00a0二つ目。🙂", (12, 10, 0, 2, 1, 0)),
        ("\ud83d\U00031350", (2, 1, 0, 1, 1, 0)),
    ],
)
def test_figures(text: str, expected: tuple[int, ...]) -> None:
    assert dict(zip(FIGURES, figures(text), strict=True)) == dict(zip(FIGURES, expected, strict=True))


def test_language_codes() -> None:
    assert len(CODES) > 180
    assert check_language("de") == "de"
    for wrong, near in [("eng", "en"), ("en-US", "en"), ("EN", "en"), ("deu", "de")]:
        with pytest.raises(UsageError, match=rf"language '{wrong}' is not known. Nearest: .*\b{near}\b"):
            check_language(wrong)
    with pytest.raises(UsageError, match="Give an ISO 639-1 code"):
        check_language("1234")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "The miller opened the green door of his house every morning before the sun rose above the hill."),
        ("de", "Der Müller öffnete jeden Morgen die grüne Tür seines Hauses, bevor die Sonne über den Hügel stieg."),
        ("fr", "Le meunier ouvrait chaque matin la porte verte de sa maison avant que le soleil ne se lève."),
        (
            "ja",
            "粉屋は毎朝、太陽が丘の上に昇る前に、家の緑色の扉を開けました。娘は古い星の本を彼に読んで聞かせました。",
        ),
        ("ru", "Мельник каждое утро открывал зелёную дверь своего дома, прежде чем солнце вставало над холмом."),
    ],
)
def test_languages_are_identified(code: str, text: str) -> None:
    pytest.importorskip("py3langid", reason="py3langid is not installed: pip install 'bertsmith[corpus]'")
    assert identify(text, figures(text)[1]) == code


def test_a_short_text_has_no_language() -> None:
    assert identify("Ja, ja.", 4) == TOO_SHORT


def test_the_report_sums_up_what_was_written(tmp_path: Path, real_tokenizer: Tokenizer) -> None:
    pytest.importorskip("py3langid", reason="py3langid is not installed: pip install 'bertsmith[corpus]'")
    english = "The miller opened the green door of his house every morning, at 7.\nShe did so too.\nShe did so too."
    german = "Der Müller öffnete jeden Morgen die grüne Tür seines Hauses, bevor die Sonne über den Hügel stieg."
    (tmp_path / "a.txt").write_text("\n\n".join([english, german, german, "Yes!"]), encoding="utf-8")
    found = prepare(tmp_path / "a.txt", real_tokenizer, tmp_path / "shards", heldout=0).statistics
    assert found["languages"] == {"de": 1, "en": 1, TOO_SHORT: 1}
    assert (found["documents"], found["very_short_documents"], found["lines"]) == (3, 1, 5)
    assert found["repeated_lines"] == 0.2
    assert found["words_per_document"] == {"5%": 2, "50%": 19, "95%": 25}
    characters = sum(not c.isspace() for c in english + german + "Yes!")
    assert found["characters"] == characters
    assert found["characters_per_line"] == round(characters / 5, 2)
    assert found["digits"] == pytest.approx(1 / characters, abs=1e-6)
    assert found["letters"] + found["digits"] + found["marks"] == pytest.approx(1, abs=1e-5)
