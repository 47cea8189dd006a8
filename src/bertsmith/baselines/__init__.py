"""What BERT is compared with."""

from bertsmith.baselines.classification import Baseline, majority_class, tfidf_logistic_regression

__all__ = ["Baseline", "majority_class", "tfidf_logistic_regression"]
