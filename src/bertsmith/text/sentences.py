"""Sentences, by the library `sentencex` (`docs/decisions/0003-sentence-splitting.md`)."""

import sentencex

from bertsmith.text.words import check_text


def split_sentences(text: str, language: str = "en") -> list[str]:
    """The sentences of `text`, in order, without the white space around them.

    Nothing but white space is lost. A blank line ends a sentence; a line break alone does not.

    Args:
        text: any text.
        language: its ISO 639 code ("en", "de", "zh"); languages without rules of their own fall back to related ones.

    Raises:
        DataError: not a string, or it holds half a surrogate pair.
    """
    segments: list[str] = sentencex.segment(language, check_text(text))  # pyright: ignore[reportAttributeAccessIssue]
    return [sentence for segment in segments if (sentence := segment.strip())]
