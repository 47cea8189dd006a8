import math
import random
from collections import Counter, defaultdict

import numpy as np
import pytest

from bertsmith.baselines import KneserNey
from bertsmith.errors import DataError, UsageError


def test_a_text_that_can_be_worked_out_by_hand() -> None:
    # Counts of twos: <s> a 2, a b 1, a c 1, b </s> 1, c </s> 1. Different words before a, b, c: 1 each; before </s>: 2.
    # Nothing stands three times, so the discounts are 0.5, 1 and 1.5. Five things can come: a, b, c, </s>, unknown.
    model = KneserNey([["a", "b"], ["a", "c"]], order=2, min_count=1)
    a, end = 0.5 / 5 + 0.5 / 5, 1 / 5 + 0.5 / 5  # (count - discount) / 5 + (3 * 0.5 + 1) / 5 * 1 / 5
    known = (1 / 2 + 1 / 2 * a) * (0.5 / 2 + 1 / 2 * a) * (0.5 + 0.5 * end)
    unknown = (1 / 2 + 1 / 2 * a) * (1 / 2 * 0.5 / 5) * end  # after an unknown word nothing is known but how often
    found = model.log_likelihoods([["a", "b"], ["a", "z"], []])
    assert found == pytest.approx([math.log(known), math.log(unknown), math.log(1 / 2 * end)])
    assert model.discounts == [(0.5, 1.0, 1.5)] * 2


def sentences(count: int, seed: int) -> list[list[str]]:
    """Words with frequencies like those of a language, some of them twice in a row."""
    rng = random.Random(seed)

    def words() -> list[str]:
        return [f"w{int(1 / (rng.random() + 1e-4))}"] * (1 if rng.random() < 0.8 else 2)

    return [[word for _ in range(rng.randint(1, 6)) for word in words()] for _ in range(count)]


class Slow:
    """The definition, with dictionaries of tuples (Chen and Goodman 1999, equations 24 to 26)."""

    def __init__(self, text: list[list[str]], order: int, min_count: int) -> None:
        seen = Counter(word for sentence in text for word in sentence)
        self.words = {word for word, count in seen.items() if count >= min_count}
        text = [["<s>", *self.known(sentence), "</s>"] for sentence in text]
        raw = [Counter(tuple(s[i : i + n]) for s in text for i in range(len(s) - n + 1)) for n in range(1, order + 1)]
        self.counts = [Counter[tuple[str, ...]]() for _ in raw]
        self.counts[-1] = raw[-1]
        for n in range(order - 1):
            for longer in raw[n + 1]:
                self.counts[n][longer[1:]] += 1
            for gram in raw[n]:
                if gram[0] == "<s>":
                    self.counts[n][gram] = raw[n][gram]
        del self.counts[0][("<s>",)]
        self.discounts = []
        for counts in self.counts:
            n1, n2, n3, n4 = ([*counts.values()].count(k) for k in (1, 2, 3, 4))
            y = n1 / (n1 + 2 * n2)
            self.discounts.append((0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3))
        self.after = [defaultdict(list) for _ in raw]
        for n, counts in enumerate(self.counts):
            for gram, count in counts.items():
                self.after[n][gram[:-1]].append(count)

    def known(self, sentence: list[str]) -> list[str]:
        return [word if word in self.words else "<unk>" for word in sentence]

    def probability(self, word: str, context: tuple[str, ...]) -> float:
        n = len(context)
        lower = self.probability(word, context[1:]) if context else 1 / (len(self.words) + 2)
        if context not in self.after[n]:
            return lower
        following, count = self.after[n][context], self.counts[n][(*context, word)]
        given = sum(self.discounts[n][min(c, 3)] for c in following)
        return (max(count - self.discounts[n][min(count, 3)], 0) + given * lower) / sum(following)

    def log_likelihood(self, sentence: list[str]) -> float:
        order, words = len(self.counts), ["<s>", *self.known(sentence), "</s>"]
        return sum(
            math.log(self.probability(words[i], tuple(words[max(0, i - order + 1) : i]))) for i in range(1, len(words))
        )


@pytest.mark.parametrize("order", [2, 3, 5])
def test_fast_is_the_definition(order: int) -> None:
    text = sentences(4000, 1)
    fast, slow = KneserNey(text, order=order, min_count=2), Slow(text, order, 2)
    assert all(d != (0.5, 1.0, 1.5) for d in fast.discounts)
    new = [*sentences(60, 2), ["w1", "nowhere", "w2"], []]
    assert fast.log_likelihoods(new) == pytest.approx([slow.log_likelihood(sentence) for sentence in new])


def test_all_that_can_come_next_adds_up_to_one() -> None:
    model = KneserNey(sentences(1000, 3), order=3, min_count=2)
    for context in ([], ["w1"], ["w1", "w2"], ["w4", "nowhere"], ["w3", "w3", "w3"]):
        # A sentence that ends here, and with each word a longer one: their first parts cancel.
        nexts = [[*context, word] for word in (*model.words, "nowhere")]
        start = model._probabilities(ids(model, context, end=True))[-1]
        total = start + sum(model._probabilities(ids(model, sentence, end=False))[-1] for sentence in nexts)
        assert total == pytest.approx(1)


def ids(model: KneserNey, sentence: list[str], *, end: bool) -> np.ndarray:
    return np.array([0, *(model.words.get(word, 2) for word in sentence), *([1] if end else [])])


def test_short_sentences_and_what_cannot_be_done() -> None:
    model = KneserNey([["a"], ["a"]], order=5, min_count=2)
    assert model.log_likelihoods([["a"]])[0] > model.log_likelihoods([["a", "a"]])[0]
    assert len(model.log_likelihoods([])) == 0
    with pytest.raises(DataError, match="no word"):
        KneserNey([["a"]])
    with pytest.raises(UsageError, match="order 0"):
        KneserNey([["a"]], order=0)
