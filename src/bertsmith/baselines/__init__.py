"""What BERT is compared with."""

from bertsmith.baselines.bm25 import BM25
from bertsmith.baselines.classification import Baseline, majority_class, tfidf_logistic_regression
from bertsmith.baselines.kneser_ney import KneserNey

__all__ = ["BM25", "Baseline", "KneserNey", "majority_class", "tfidf_logistic_regression"]
