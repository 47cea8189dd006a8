"""HTML from values. Text is escaped unless its type says that it is markup already, so that forgetting is safe."""

import json
import unicodedata
from html import escape
from typing import Any

_VOID = frozenset({"br", "hr", "meta", "wbr"})
_KEPT = frozenset("\n\t")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # controls, bidi and zero-width marks, halves of a pair


class Html(str):
    """A string that is markup. Only this module and code that has escaped every foreign part may make one."""

    __slots__ = ()


def visible(text: str) -> str:
    """`text` with its invisible characters shown: ␀ for NUL, [U+202E] for one that turns the direction of writing."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def safe(content: str) -> Html:
    """`content` as markup: as it is if it is `Html`, else made visible and escaped."""
    return content if isinstance(content, Html) else Html(escape(visible(content)))


def join(*contents: str) -> Html:
    """All contents one after the other, each made safe."""
    return Html("".join(map(safe, contents)))


def element(tag: str, *children: str, **attributes: str | int | None) -> Html:
    """`<tag attributes>children</tag>`, every child made safe.

    In attribute names `class_` means class and `aria_label` aria-label. An attribute that is None is left out.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(visible(str(value)))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{join(*children)}</{tag}>")


def data_block(value: Any) -> Html:
    """JSON for a script to read. Nothing in it can end the block: `<`, `>`, `&` and all but ASCII are escaped."""
    written = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json">{written}</script>')


def _shown(character: str) -> str:
    if character in _KEPT or unicodedata.category(character) not in _INVISIBLE:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode's pictures of control characters
    return "␡" if code == 0x7F else f"[U+{code:04X}]"
