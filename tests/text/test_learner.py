import math
import random
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.errors import UsageError, VocabularyError
from bertsmith.text import SPECIAL_TOKENS, Tokenizer, count_words, learn_vocabulary
from bertsmith.text.learner import _Learner
from bertsmith.text.likelihood import gains

SPECIAL = len(SPECIAL_TOKENS)
TEXT = [
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness,",
    "it was the epoch of belief, it was the epoch of incredulity, it was the season of Light, it was the season of",
    "Darkness, it was the spring of hope, it was the winter of despair, we had everything before us, we had nothing",
]


def log_likelihood(words):
    """Of a corpus {(token, ...): count} under the unigram model with its maximum-likelihood probabilities."""
    counts = Counter()
    for word, count in words.items():
        for token in word:
            counts[token] += count
    total = sum(counts.values())
    return sum(count * math.log(count / total) for count in counts.values())


def merge(words, left, right):
    merged = Counter()
    for word, count in words.items():
        out = []
        for token in word:
            # A token made in this pass is no part of a further pair of it.
            if token == right and out and out[-1] == (left, True):
                out[-1] = (left + right[2:], False)
            else:
                out.append((token, token == left))
        merged[tuple(token for token, _ in out)] += count
    return merged


def occurrences(words, left, right):
    return sum(
        count * (len(word) - sum(len(other) for other in merge({word: 1}, left, right)))
        for word, count in words.items()
    )


def learn_by_brute_force(word_counts, merges, min_frequency):
    """WordPiece by its definition: try every pair, compute the likelihood of the whole corpus, keep the best."""
    words = Counter()
    for word, count in word_counts.items():
        words[(word[0], *("##" + character for character in word[1:]))] += count
    made = []
    known = {token for word in words for token in word} | {"##" + word[0] for word in word_counts}
    while len(made) < merges:
        pairs = {pair for word in words for pair in pairwise(word)}
        pairs = [pair for pair in sorted(pairs) if occurrences(words, *pair) >= min_frequency]
        if not pairs:
            return made, False
        before = log_likelihood(words)
        scores = [log_likelihood(merge(words, *pair)) - before for pair in pairs]
        best = max(scores)
        left, right = next(pair for pair, score in zip(pairs, scores, strict=True) if score > best - 1e-8)
        words = merge(words, left, right)
        text = left + right[2:]
        if text not in known:
            known.add(text)
            made.append(text)
    return made, True


WORDS = st.dictionaries(st.text("abc", min_size=1, max_size=7), st.integers(1, 20), min_size=1, max_size=12)


@settings(max_examples=150)
@given(word_counts=WORDS, merges=st.integers(0, 12), min_frequency=st.integers(1, 4))
def test_equals_the_definition(word_counts, merges, min_frequency):
    characters = set("".join(word_counts))
    least = SPECIAL + 2 * len(characters)
    made, enough = learn_by_brute_force(word_counts, merges, min_frequency)
    if enough:
        vocabulary = learn_vocabulary(word_counts, least + merges, min_frequency=min_frequency)
        assert list(vocabulary.tokens[least:]) == made
    else:
        with pytest.raises(VocabularyError, match=f"at most {least + len(made)} "):
            learn_vocabulary(word_counts, least + merges, min_frequency=min_frequency)


@pytest.mark.parametrize("seed", range(6))
def test_the_table_is_right_after_every_merge(seed):
    # A stale entry need not change the order of merges, so look at the table.
    rng = random.Random(seed)
    words = {
        "".join(rng.choices("ab", [rng.randint(1, 4), 1], k=rng.randint(2, 14))): rng.randint(1, 5) for _ in range(40)
    }
    learner = _Learner(words, ["a", "b", "##a", "##b"], min_frequency=1)
    while learner.merge_best():
        corpus = Counter()
        for word, count in zip(learner._words, learner._word_counts, strict=True):
            corpus[tuple(learner.tokens[token] for token in word)] += count
        pairs = {pair for word in corpus for pair in pairwise(word)}
        rows = {(learner.tokens[left], learner.tokens[right]): row for (left, right), row in learner._rows.items()}
        assert set(rows) == pairs
        before = log_likelihood(corpus)
        for (left, right), row in rows.items():
            assert left + right[2:] not in learner.tokens
            assert learner._pair_counts[row] == occurrences(corpus, left, right)
            gain = log_likelihood(merge(corpus, left, right)) - before
            assert learner._bounds[row] > gain - 1e-9
            learner._rescore(np.array([row]))
            assert math.isclose(learner._bounds[row], gain, abs_tol=1e-9)


def test_likelihood_differs_from_frequency_and_from_the_ratio():
    # "ae" is the most frequent pair (6, byte pair encoding takes it first), but a and e are frequent anyway. "xy" has
    # the highest ratio n(ab) / (n(a) n(b)), 2 / (2 * 2). The likelihood takes "qu": 5 times, and always together.
    word_counts = {"ae": 6, "ai": 6, "ao": 6, "be": 6, "ce": 6, "qu": 5, "xy": 2}
    least = SPECIAL + 2 * len(set("".join(word_counts)))
    assert learn_vocabulary(word_counts, least + 1).tokens[-1] == "qu"

    def f(x):
        return x * math.log(x)

    # By hand, of 2 * 37 = 74 tokens: 5 of q and 5 of u become 5 of qu; 6 of the 18 a and 6 of the 18 e become ae.
    qu = f(5) - 2 * f(5) + f(74) - f(69)
    ae = f(6) + 2 * (f(12) - f(18)) + f(74) - f(68)
    xy = f(2) - 2 * f(2) + f(74) - f(72)
    found = gains(
        pairs=np.array([5, 6, 2]),
        left=np.array([5, 18, 2]),
        right=np.array([5, 18, 2]),
        total=74,
        doubled=np.array([False, False, False]),
    )
    np.testing.assert_allclose(found, [qu, ae, xy], rtol=1e-12)
    assert qu > xy > ae


@settings(max_examples=200)
@given(word_counts=WORDS, data=st.data())
def test_the_gain_is_the_difference_of_likelihoods(word_counts, data):
    words = Counter({(word[0], *("##" + c for c in word[1:])): count for word, count in word_counts.items()})
    pairs = sorted({pair for word in words for pair in pairwise(word)})
    if not pairs:
        return
    left, right = data.draw(st.sampled_from(pairs))
    counts = Counter()
    for word, count in words.items():
        for token in word:
            counts[token] += count
    found = gains(
        pairs=np.array([occurrences(words, left, right)]),
        left=np.array([counts[left]]),
        right=np.array([counts[right]]),
        total=counts.total(),
        doubled=np.array([left == right]),
    )
    expected = log_likelihood(merge(words, left, right)) - log_likelihood(words)
    np.testing.assert_allclose(found, [expected], atol=1e-9)


def test_layout_of_the_vocabulary():
    vocabulary = learn_vocabulary({"abab": 9, "ba": 5, ",": 8, "中": 3}, 16, unused=2)
    assert vocabulary.tokens[:7] == (*SPECIAL_TOKENS, "[unused0]", "[unused1]")
    assert vocabulary.tokens[7:13] == (",", "a", "b", "中", "##a", "##b")  # what stands alone has no continuation
    assert vocabulary.tokens[13:] == ("ab", "##ab", "abab")
    kept = learn_vocabulary({"a,b": 9}, SPECIAL + 6)  # unless this corpus has one
    assert kept.tokens[SPECIAL:] == (",", "a", "b", "##,", "##a", "##b")


def test_a_word_of_known_characters_is_never_unknown():
    vocabulary = learn_vocabulary(count_words(TEXT), 80)
    tokenizer = Tokenizer(vocabulary)
    characters = {token for token in vocabulary.tokens if len(token) == 1 and token.isalpha()}
    words = ["".join(random.Random(seed).choices(sorted(characters), k=9)) for seed in range(50)]
    assert vocabulary.unk_id not in tokenizer.encode(" ".join(words)).ids


def test_rare_characters_are_left_out():
    word_counts = {"aa": 9, "ab": 8, "az": 1}
    vocabulary = learn_vocabulary(word_counts, SPECIAL + 5, alphabet_limit=2)
    assert vocabulary.tokens[SPECIAL:] == ("a", "b", "##a", "##b", "aa")
    assert Tokenizer(vocabulary).encode("az").tokens == ["[UNK]"]


def test_nothing_but_the_counts_decides():
    counts = count_words(TEXT)
    expected = learn_vocabulary(counts, 85)
    for seed in range(3):
        words = sorted(counts)
        random.Random(seed).shuffle(words)
        assert learn_vocabulary({word: counts[word] for word in words}, 85) == expected
    assert learn_vocabulary(count_words(TEXT * 1, processes=2), 85).sha256 == expected.sha256


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_run_gives_the_same_file(hash_seed, tmp_path):
    code = (
        "import sys; from bertsmith.text import *\n"
        "counts = count_words(open(sys.argv[1], encoding='utf-8')); learn_vocabulary(counts, 85).save(sys.argv[2])"
    )
    (tmp_path / "text").write_text("\n".join(TEXT), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "text", tmp_path / "vocab.txt"],
        env={"PYTHONHASHSEED": hash_seed},
        check=True,
    )
    expected = learn_vocabulary(count_words(TEXT), 85).save(tmp_path / "expected")
    assert (tmp_path / "vocab.txt").read_bytes() == expected.read_bytes()


def test_sizes_that_cannot_be():
    counts = count_words(TEXT)
    with pytest.raises(VocabularyError, match="Ask for 50 at least") as least:
        learn_vocabulary(counts, 30)
    assert "alphabet_limit (1,000)" in str(least.value)
    assert len(learn_vocabulary(counts, 50)) == 50
    with pytest.raises(VocabularyError, match="larger than this text supports: at most ") as largest:
        learn_vocabulary(counts, 5000)
    size = int(str(largest.value).split("at most ")[1].split()[0])
    assert len(learn_vocabulary(counts, size)) == size
    with pytest.raises(VocabularyError, match=f"at most {size} "):
        learn_vocabulary(counts, size + 1)


def test_no_words():
    with pytest.raises(VocabularyError, match="there are no words"):
        learn_vocabulary(count_words(["", " \n"]), 100)
    with pytest.raises(VocabularyError, match="there are no words"):
        learn_vocabulary({"x" * 101: 5}, 100)  # no tokenizer would ever cut it


@pytest.mark.parametrize("options", [{"alphabet_limit": 0}, {"min_frequency": 0}, {"unused": -1}])
def test_options_out_of_range(options):
    with pytest.raises(UsageError, match=f"{next(iter(options))} .*at least"):
        learn_vocabulary({"ab": 3}, 10, **options)


def test_special_tokens_must_hold_the_five():
    assert learn_vocabulary({"ab": 3}, 10, special_tokens=[*SPECIAL_TOKENS[::-1], "[X]"]).pad_id == 4
    with pytest.raises(VocabularyError, match=r"has no \[MASK\]"):
        learn_vocabulary({"ab": 3}, 8, special_tokens=SPECIAL_TOKENS[:4])


def test_progress_ends_at_the_size():
    heard = []
    learn_vocabulary(count_words(TEXT), 85, progress=lambda *what: heard.append(what))
    assert heard[-1] == ("learning vocabulary", 85, 85)
    assert [done for _, done, _ in heard] == sorted(done for _, done, _ in heard)
