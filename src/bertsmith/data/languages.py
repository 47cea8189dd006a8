"""Languages: which codes there are, and which language a text is in."""

from collections.abc import Callable
from difflib import get_close_matches
from functools import lru_cache
from importlib.util import find_spec

from bertsmith.errors import UsageError

# ISO 639-1, and the codes beyond it of languages with a Wikipedia of their own that people prepare most.
_CODES = """
aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es
et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki
kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no
nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te
tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
als arz ast azb bar bcl bh bpy ceb ckb diq fil gom gsw haw hif hsb ilo krc lmo lzh mai mhr min mrj mwl nan nap nds
new pam pms pnb sah scn sco szl tum tyv vec vls war wuu xal xmf yue
"""
CODES = frozenset(_CODES.split())
TOO_SHORT = "too short to tell"

_LETTERS_ENOUGH = 40
_LOOKED_AT = 2000  # characters; more change the answer rarely and cost in proportion


def check_language(code: str) -> str:
    """The code, if it is one.

    Raises:
        UsageError: with the nearest known codes.
    """
    if code in CODES:
        return code
    near = get_close_matches(code.lower().partition("-")[0].partition("_")[0], sorted(CODES), n=5, cutoff=0.5)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    raise UsageError(f"language {code!r} is not known.{hint} Give an ISO 639-1 code, such as en, de, zh.")


def can_identify() -> bool:
    """Whether the library that identifies languages is installed (extra `corpus`)."""
    return find_spec("py3langid") is not None


def identify(text: str, letters: int) -> str:
    """The code of the language that most of the beginning of `text` is in, of the 97 that py3langid knows.

    A text of few letters is `TOO_SHORT`: the answer would be a guess.
    """
    return str(_classifier()(text[:_LOOKED_AT])[0]) if letters >= _LETTERS_ENOUGH else TOO_SHORT


@lru_cache(maxsize=1)
def _classifier() -> Callable[[str], tuple[str, float]]:
    from py3langid import classify

    return classify
