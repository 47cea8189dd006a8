"""What the numbers of a demo run say, in plain words that follow from them, good or bad."""

import math
from statistics import fmean

from bertsmith.demo.result import Comparison, DemoResult
from bertsmith.inspection.wording import percent, points


def lift(comparison: Comparison) -> str:
    """What pretraining did for the task, in a sentence or two."""
    with_it, without = percent(fmean(comparison.pretrained)), percent(fmean(comparison.not_pretrained))
    if comparison.lift_is_clear:
        return (
            f"Pretraining lifted accuracy from {without} to {with_it}, by {points(comparison.lift)}, on "
            f"{comparison.test_size:,} sentences that no model had seen."
        )
    if comparison.lift > 0:
        return (
            f"The pretrained encoder got {with_it}, the same network without pretraining {without}. The difference of "
            f"{points(comparison.lift)} is within what chance explains."
        )
    return f"Pretraining did not help: the pretrained encoder got {with_it}, the same network without pretraining {without}."


def against_tfidf(comparison: Comparison) -> str:
    """The pretrained encoder beside TF-IDF with logistic regression, one sentence."""
    difference = fmean(comparison.pretrained) - comparison.tfidf
    share = comparison.tfidf
    error = 2 * math.sqrt(2 * share * (1 - share) / comparison.test_size)
    score = percent(comparison.tfidf)
    if abs(difference) <= error:
        return f"TF-IDF with logistic regression gets {score}, which is about the same."
    if difference > 0:
        return f"TF-IDF with logistic regression, a strong and simple method, gets {score}: {points(difference)} less."
    return f"TF-IDF with logistic regression, which trains in a second, is still ahead with {score}."


def doubts(result: DemoResult) -> list[str]:
    """What a reader of this run should be told before believing it: nothing where all went as hoped."""
    found = []
    comparison, heldout, references = result.comparison, result.heldout, result.references
    if not comparison.lift_is_clear:
        found.append(
            "The lift from pretraining is not there in this run. Take the fine-tuned score as that of a small network "
            "trained on the labelled sentences alone."
        )
    if heldout.masked_lm_loss >= references.unigram:
        found.append(
            f"The held-out loss of {heldout.masked_lm_loss:.2f} nats is no better than knowing how frequent each token is "
            f"({references.unigram:.2f}). The encoder has not learned to use context yet: train it longer."
        )
    if heldout.next_sentence_accuracy < references.next_sentence_accuracy + 0.05:
        found.append(
            f"Next-sentence prediction is at {percent(heldout.next_sentence_accuracy)}, close to the "
            f"{percent(references.next_sentence_accuracy)} of a coin: it has hardly been learned."
        )
    if fmean(comparison.pretrained) <= comparison.majority:
        found.append("The fine-tuned encoder does no better than always answering with the most frequent label.")
    return found
