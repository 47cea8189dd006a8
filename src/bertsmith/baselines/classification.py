"""Two baselines for text classification that every fine-tuned encoder owes the reader."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bertsmith.errors import MissingExtra

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)  # inverse regularization strengths tried on the development set


@dataclass(frozen=True)
class Baseline:
    """A baseline's predictions for the test texts, and what was chosen on the development set to get them."""

    predictions: tuple[str, ...]
    choice: str

    def accuracy(self, labels: Sequence[str]) -> float:
        """Share of `labels` that was predicted."""
        return sum(p == label for p, label in zip(self.predictions, labels, strict=True)) / len(labels)


def majority_class(train_labels: Sequence[str], test_size: int) -> Baseline:
    """Always the most frequent training label; of equally frequent ones the first in alphabetical order."""
    counts = Counter(train_labels)
    label = min(counts, key=lambda name: (-counts[name], name))
    return Baseline((label,) * test_size, f"always {label!r}")


def tfidf_logistic_regression(
    train: tuple[Sequence[str], Sequence[str]],
    dev: tuple[Sequence[str], Sequence[str]],
    test_texts: Sequence[str],
) -> Baseline:
    """TF-IDF of words and word pairs, then logistic regression; its strength is the one that does best on `dev`.

    `train` and `dev` are (texts, labels). It gets the same training texts as the encoder and is tuned with the same care.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError:
        raise MissingExtra("scikit-learn", "inspect") from None

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")
    known = vectorizer.fit_transform(train[0])
    unseen = vectorizer.transform(dev[0])
    fitted = [LogisticRegression(C=strength, max_iter=1000).fit(known, train[1]) for strength in STRENGTHS]
    best = max(range(len(fitted)), key=lambda i: fitted[i].score(unseen, dev[1]))
    predictions = fitted[best].predict(vectorizer.transform(test_texts))
    return Baseline(tuple(str(label) for label in predictions), f"C = {STRENGTHS[best]:g}")
