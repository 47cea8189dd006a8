"""The demo's result in a few lines for a terminal."""

from collections.abc import Iterator
from statistics import fmean

from bertsmith.demo import wording
from bertsmith.demo.result import DemoResult
from bertsmith.inspection.wording import duration


def lines(result: DemoResult) -> Iterator[str]:
    """What was done, what it brought, and where to look."""
    heldout, references, comparison = result.heldout, result.references, result.comparison
    yield ""
    yield f"From raw text to a BERT in {duration(result.total_seconds)}."
    yield ""
    yield f"masked LM       loss {heldout.masked_lm_loss:.3f}, accuracy {heldout.masked_lm_accuracy:.1%} on held-out text"
    yield f"                (unigram {references.unigram:.3f}, blind guess ln V = {references.ln_v:.3f})"
    yield f"next sentence   accuracy {heldout.next_sentence_accuracy:.1%} (chance 50 %)"
    yield ""
    yield f"fine-tuned on {comparison.train_size:,} sentences, tested on {comparison.test_size:,}: {comparison.task}"
    yield f"  pretrained             {_scores(comparison.pretrained)}"
    yield f"  the same, not          {_scores(comparison.not_pretrained)}"
    yield f"  TF-IDF + logistic reg. {comparison.tfidf:.1%}"
    yield f"  majority class         {comparison.majority:.1%}"
    yield f"  {wording.lift(comparison)}"
    yield ""
    for each in result.fills:
        yield f"{each.text}  {', '.join(f'{token} {p:.0%}' for token, p in each.candidates[:4])}"
    yield ""
    yield f"report          {result.model_folder.parents[1] / 'report.html'}"
    yield f"model           {result.model_folder}"
    for command in result.commands:
        yield f"try             {command}"


def _scores(values: tuple[float, ...]) -> str:
    return f"{fmean(values):.1%}  ({min(values):.1%} to {max(values):.1%} over {len(values)} seeds)"
