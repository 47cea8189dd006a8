"""The demo's report: one page that opens offline and tells what was done, what it brought and what it did not."""

import math
import re
from collections.abc import Iterable
from itertools import groupby
from statistics import fmean

from bertsmith.demo import wording
from bertsmith.demo.result import Comparison, DemoResult, Fill, Neighbourhood
from bertsmith.history import series
from bertsmith.inspection import Neighbour
from bertsmith.inspection import page as pages
from bertsmith.inspection.attention_page import HOW_TO_READ, attention_picture
from bertsmith.inspection.charts import Bar, Curve, Reference, bars, loss_curves
from bertsmith.inspection.markup import Html, element, join
from bertsmith.inspection.page import Section, section
from bertsmith.inspection.wording import amount, duration, percent


def render(result: DemoResult) -> str:
    """The report as one HTML document.

    Raises:
        MissingExtra: the extra `inspect` is not installed.
    """
    sections: list[Section | Html] = [_key_numbers(result), *map(pages.note, wording.doubts(result)), _learning(result)]
    sections.append(_worth(result.comparison))
    if result.fills:
        sections.append(_fills(result.fills))
    if result.neighbourhoods:
        sections.append(_neighbourhoods(result.neighbourhoods))
    sections += [_attention(result), _next_steps(result), _time(result)]
    return pages.page(
        f"From raw text to a BERT in {duration(result.total_seconds)}",
        lead=_lead(result),
        sections=sections,
        footer=_footer(result),
    )


def _lead(result: DemoResult) -> Html:
    model, corpus, comparison = result.model, result.corpus, result.comparison
    read = (
        f"A new {model.name} with {amount(model.parameters)} weights read {corpus.documents:,} documents "
        f"({amount(corpus.words)} words) and learned to fill in hidden words. "
    )
    learned = f"Then it learned a task from {comparison.train_size:,} labelled sentences ({comparison.task}). "
    return join(read, learned, element("strong", wording.lift(comparison)))


def _key_numbers(result: DemoResult) -> Html:
    heldout, references, model = result.heldout, result.references, result.model
    vocabulary, comparison = result.vocabulary, result.comparison
    return pages.key_numbers(
        [
            (
                percent(fmean(comparison.pretrained)),
                "accuracy after fine-tuning",
                f"{percent(fmean(comparison.not_pretrained))} without pretraining",
            ),
            (
                percent(heldout.masked_lm_accuracy),
                "of hidden tokens guessed right",
                f"in text it never read, out of {vocabulary.size:,} tokens",
            ),
            (
                percent(heldout.next_sentence_accuracy),
                "of next sentences told from random ones",
                f"a coin gets {references.next_sentence_accuracy:.0%}",
            ),
            (
                amount(model.parameters),
                "weights",
                f"{model.num_hidden_layers} layers of {model.hidden_size}, {model.num_attention_heads} heads each",
            ),
            (
                f"{vocabulary.size:,}",
                "tokens in its vocabulary",
                f"{vocabulary.fertility:.2f} tokens a word, {vocabulary.unknown_rate:.2%} of words unknown",
            ),
            (
                f"{result.tokens_per_second:,.0f}",
                "tokens read a second",
                f"{duration(result.total_seconds)} for everything on this page",
            ),
        ]
    )


def _learning(result: DemoResult) -> Section:
    references = result.references
    parts = [
        pages.paragraph(
            "Some tokens of each text are hidden, and the encoder learns to name them from what is left. The loss says how "
            "surprised it is by the right token: lower is better, 0 would be certainty."
        )
    ]
    lines = (Reference("blind guess", references.ln_v), Reference("frequencies", references.unigram))
    parts += _curves(result, "masked_lm", lines, 280, _masked_lm_caption(result))
    chance = (Reference("coin", references.next_sentence_loss),)
    caption = (
        "Second task: does the second sentence follow the first, or is it from another place? A coin's loss is ln 2 = "
        f"{references.next_sentence_loss:.3f}."
    )
    parts += _curves(result, "next_sentence", chance, 170, caption)
    return section("What it learned by reading", *parts)


def _masked_lm_caption(result: DemoResult) -> str:
    references, loss = result.references, result.heldout.masked_lm_loss
    return (
        f"Masked-LM loss. A blind guess among all {result.vocabulary.size:,} tokens costs ln V = {references.ln_v:.2f} nats; "
        f"knowing how frequent each token is, {references.unigram:.2f}. On held-out text the encoder ends at {loss:.2f}, as "
        f"unsure as if it chose among {math.exp(loss):,.0f} equally likely tokens."
    )


def _curves(
    result: DemoResult, objective: str, references: tuple[Reference, ...], height: int, caption: str
) -> list[Html]:
    """The curves of one objective as a figure, or nothing where the run did not log it."""
    train, heldout = (series(result.log, split, objective, "loss") for split in ("train", "heldout"))
    found = [
        Curve("training", train.steps, train.values, "grey", sketchy=True),
        Curve("held-out", heldout.steps, heldout.values, "blue"),
    ]
    if not any(len(curve.values) for curve in found):
        return []
    label = f"Loss of {objective} by training step, on training and held-out text, with reference lines"
    return [pages.drawing(lambda width: loss_curves(found, references, width=width, height=height), label, caption)]


def _worth(comparison: Comparison) -> Section:
    rows = [
        Bar("this encoder, pretrained", comparison.pretrained, "blue"),
        Bar("this encoder, not pretrained", comparison.not_pretrained, "orange"),
        Bar("TF-IDF + logistic regression", (comparison.tfidf,)),
        Bar("always the most frequent label", (comparison.majority,)),
    ]
    runs = len(comparison.pretrained)
    seeds = f"Each dot is one of {runs} runs with different seeds, each bar their mean. " if runs > 1 else ""
    clear = "Each pretrained run beat each run without pretraining. " if comparison.lift_is_clear and runs > 1 else ""
    caption = (
        f"Accuracy on {comparison.test_size:,} test sentences after training on {comparison.train_size:,}. {seeds}{clear}"
        "All methods saw the same labelled sentences."
    )
    numbers = pages.table(
        ["", "mean", "lowest", "highest"],
        [[row.name, *map(percent, (fmean(row.scores), min(row.scores), max(row.scores)))] for row in rows],
    )
    return section(
        "Was pretraining worth it?",
        pages.paragraph(f"{wording.lift(comparison)} {wording.against_tfidf(comparison)}"),
        pages.drawing(lambda width: bars(rows, width=width), "Accuracy of four methods on the test sentences", caption),
        pages.details("The numbers", numbers),
    )


def _fills(fills: Iterable[Fill]) -> Section:
    cards = [join(element("p", _filled(fill), class_="quote"), pages.bar_list(fill.candidates)) for fill in fills]
    intro = (
        "One word of each sentence was hidden. These are the encoder's likeliest tokens for it, with its probabilities."
    )
    return section("Filling in the gap", pages.paragraph(intro), pages.columns(*cards))


def _filled(fill: Fill) -> Html:
    """The text with the best candidate in the gap."""
    before, gap, after = fill.text.partition("[MASK]")
    best = fill.candidates[0][0] if fill.candidates else "?"
    return join(before, element("span", best, class_="hidden-word"), after) if gap else join(before)


def _neighbourhoods(neighbourhoods: Iterable[Neighbourhood]) -> Section:
    rows = [
        pages.columns(*map(_neighbourhood, group))
        for _, group in groupby(neighbourhoods, key=lambda one: one.word.casefold())
    ]
    intro = (
        "The encoder gives a word another vector in each sentence. Below, the same word stands in two contexts, each with the "
        "words from other sentences whose vectors are nearest to it, the word itself left out."
    )
    how = (
        "Similarity is the cosine of last-layer vectors after the mean over many words is taken off. Compare the order, not "
        "the size."
    )
    return section("One word in two contexts", pages.paragraph(intro), *rows, pages.paragraph(how, class_="quiet"))


def _neighbourhood(neighbourhood: Neighbourhood) -> Html:
    quote = element("p", "“", _marked(neighbourhood.word, neighbourhood.sentence), "”", class_="quote")
    return join(quote, element("ol", *map(_neighbour, neighbourhood.neighbours), class_="words"))


def _neighbour(neighbour: Neighbour) -> Html:
    text, span = pages.excerpt(neighbour.sentence, neighbour.position)
    return element(
        "li",
        element("strong", neighbour.word),
        element("span", f"{neighbour.similarity:.2f}", class_="similarity"),
        element("small", pages.highlighted(text, span)),
    )


def _marked(word: str, sentence: str) -> Html:
    """`sentence` with the first `word` in it marked."""
    found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", sentence, re.IGNORECASE)
    return pages.highlighted(sentence, found.span() if found else (0, 0))


def _attention(result: DemoResult) -> Section:
    return section("Where it looks", HOW_TO_READ, attention_picture(result.attention))


def _next_steps(result: DemoResult) -> Section:
    intro = join(
        "The model lies in ", element("code", str(result.model_folder)), ". Every command of bertsmith can load it:"
    )
    return section("What to try next", pages.paragraph(intro), pages.code(*result.commands))


def _time(result: DemoResult) -> Section:
    rows = [*result.seconds.items(), ("all", result.total_seconds)]
    return section(
        "Where the time went",
        pages.table(["phase", "seconds"], [[phase, f"{seconds:,.1f}"] for phase, seconds in rows]),
    )


def _footer(result: DemoResult) -> Html:
    return join(f"Text: {result.corpus.name}. {result.corpus.licence}")
