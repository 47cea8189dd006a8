"""How good answers are: exact match and F1 of words, as the official scripts of SQuAD 1.1 and 2.0 count them.

The two differ in what no answer is worth: in 1.1 an answer without words gets no F1, in 2.0 it is right where none is there.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(answer: str) -> str:
    """Lower case, without punctuation, articles and surplus white space."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_NO_PUNCTUATION)).split())


def exact_and_f1(gold: Sequence[str], answer: str, *, may_be_none: bool) -> tuple[float, float]:
    """Of `answer` ("" is none) against the best of the right ones, of which there are none where there is no answer.

    `may_be_none`: by the rules of 2.0 (evaluate-v2.0.py), else by those of 1.1 (evaluate-v1.1.py).
    """
    if may_be_none:
        gold = [text for text in gold if normalize(text)] or [""]
    exact = max(float(normalize(text) == normalize(answer)) for text in gold)
    return exact, max(_f1(text, answer, may_be_none=may_be_none) for text in gold)


def best_threshold(
    scores: Sequence[float], no_answer: Sequence[float], answered: Sequence[bool], has: Sequence[bool]
) -> float:
    """The threshold over which `no_answer` means none, for the highest sum of scores (`find_best_thresh`).

    `scores` of each question's best answer; `answered`: whether that answer says anything; `has`: whether there is one.
    """
    order = sorted(range(len(scores)), key=no_answer.__getitem__)
    best = total = float(len(has) - sum(has))
    threshold = min(no_answer) - 1.0  # under it, nothing is ever answered
    for number in order:
        total += scores[number] if has[number] else -float(answered[number])
        if total > best:
            best, threshold = total, no_answer[number]
    return threshold


def _f1(gold: str, answer: str, *, may_be_none: bool) -> float:
    truth, said = normalize(gold).split(), normalize(answer).split()
    if may_be_none and not (truth and said):
        return float(truth == said)
    shared = sum((Counter(truth) & Counter(said)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(said), shared / len(truth)
    return 2 * precision * recall / (precision + recall)
