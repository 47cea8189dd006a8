"""The demo: every link of the chain, on real text that ships with bertsmith.

OUT/
  vocabulary/    the tokenizer that was learned
  shards/        the text as tokens
  pretraining/   the run, with its log and OUT/pretraining/model: fills masks, makes vectors
  finetuned/     the model that tells opinions from facts: predicts
  result.json    every number of the report
  report.html    the report
"""

import dataclasses
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bertsmith.baselines import majority_class, tfidf_logistic_regression
from bertsmith.checkpoints import Checkpoint, load_model, save_model
from bertsmith.data import LearnedTokenizer, Prepared, Shards, learn_tokenizer, prepare, read_documents
from bertsmith.demo.page import render
from bertsmith.demo.result import (
    Comparison,
    CorpusFacts,
    DemoResult,
    Fill,
    HeldoutFigures,
    ModelFacts,
    Neighbourhood,
    ReferenceLines,
    VocabularyFacts,
)
from bertsmith.errors import UsageError
from bertsmith.inspection import WordVectors, attention
from bertsmith.inspection.charts import check_installed
from bertsmith.progress import Progress, silent
from bertsmith.recipes.demo import reviews
from bertsmith.tasks import Classify, Finetuned, Finetuning, Labelled, fill, random_twin, read_labelled
from bertsmith.train import Pretraining, Recipe, read_log, reference_losses

DATA = Path(__file__).parent / "data"
REVIEWS = DATA / "reviews.txt.xz"
OTHER_REVIEWS = DATA / "reviews-heldout.txt.xz"  # for looking at words in text that was not trained on
LICENCE = (
    "Film reviews and labelled sentences by Bo Pang and Lillian Lee (Sentiment Polarity Dataset 2.0 and Subjectivity "
    "Dataset 1.0, ACL 2004), CC BY 4.0; changes are listed in the package's demo/data/ATTRIBUTION.md."
)

HELDOUT = 0.05
BATCH_SIZE = 16

FILLS = (
    "the special [MASK] are impressive .",
    "it is one of the [MASK] films of the year .",
    "the film is based on the [MASK] by stephen king .",
    "he plays a young [MASK] who falls in love with her .",
    "this [MASK] is not worth your time .",
)
CONTEXTS = (
    ("star", "she is a star who has made many movies ."),
    ("star", "the new star wars film has more special effects ."),
    ("play", "the two actors play brothers ."),
    ("play", "the film is based on a play by shakespeare ."),
)
ATTENTION = "the special effects are amazing , but the story is dull ."


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is pretrained and how much is done; the numbers as they stand are those of `bertsmith demo`.

    Attributes:
        recipe: how the encoder is pretrained.
        vocab_size: tokens in the vocabulary.
        labels: labelled sentences to fine-tune on; few are where pretraining counts.
        epochs: passes over them.
        seeds: one fine-tuning for each, with pretraining and without.
        words: words in context among which neighbours are looked for.
    """

    recipe: Recipe = field(default_factory=reviews)
    vocab_size: int = 6000
    labels: int = 200
    epochs: int = 10
    seeds: tuple[int, ...] = (0, 1, 2)
    words: int = 50_000


@dataclass
class _Clock:
    """How long each phase took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def run(
    out: str | Path, *, settings: Settings | None = None, replace: bool = False, progress: Progress = silent
) -> DemoResult:
    """Run the whole chain into the folder `out` and return what was found; the page is `out`/report.html.

    Raises:
        UsageError: `out` is a file, or not empty and no earlier demo, or an earlier demo and `replace` is False.
        MissingExtra: the extra `inspect` is not installed.
    """
    check_installed()  # now, and not after five minutes of training
    out, settings, clock = Path(out), settings or Settings(), _Clock()
    with clock.phase("vocabulary"):
        _make_room(out, settings.recipe, replace=replace)
        learned = learn_tokenizer(REVIEWS, settings.vocab_size, heldout=HELDOUT, progress=progress)
        learned.tokenizer.save(out / "vocabulary")
    with clock.phase("shards"):
        prepared = prepare(REVIEWS, learned.tokenizer, out / "shards", heldout=HELDOUT, progress=progress)
    with clock.phase("pretraining"):
        for report in Pretraining(
            recipe=settings.recipe, data=out / "shards", out=out / "pretraining", evaluate_every=200
        ).run():
            progress("pretraining", report.step, report.steps, report.note())
    with clock.phase("fine-tuning"):
        pretrained = load_model(out / "pretraining")
        comparison = _compare(pretrained, out / "finetuned", settings, progress)
    with clock.phase("looking inside"):
        result = _look(out, pretrained, learned, prepared, comparison, settings, progress)
    result = dataclasses.replace(result, seconds=dict(clock.seconds))  # all but what it takes to write them down
    (out / "result.json").write_text(result.to_json(), encoding="utf-8", newline="\n")
    (out / "report.html").write_text(render(result), encoding="utf-8", newline="\n")
    return result


def _make_room(out: Path, recipe: Recipe, *, replace: bool) -> None:
    marker = out / "demo.json"
    for place in (out, *out.parents):
        if place.exists() and not place.is_dir():
            raise UsageError(f"{place} is a file. The demo makes a folder: choose another one with -o.")
    if out.exists() and any(out.iterdir()):
        if not marker.is_file():
            raise UsageError(f"{out} is not empty and not an earlier demo. Choose another folder with -o.")
        if not replace:
            raise UsageError(f"{out} holds an earlier demo. Let it give way, or choose another folder with -o.")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps({"kind": "demo", "recipe": recipe.name}) + "\n", encoding="utf-8")


def few_labels(out: Path, labels: int) -> Path:
    """The first training sentences as a file of their own: few labels are where pretraining counts."""
    lines = (DATA / "train.tsv").read_text(encoding="utf-8").splitlines()[: labels + 1]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return out


def _compare(pretrained: Checkpoint, out: Path, settings: Settings, progress: Progress) -> Comparison:
    """Fine-tune the encoder and its twin without pretraining, by the same code, and score both and two baselines."""
    few = few_labels(out.with_name("labelled.tsv"), settings.labels)
    train, dev, test = (read_labelled(file, Classify) for file in (few, DATA / "dev.tsv", DATA / "test.tsv"))
    scores: dict[bool, list[float]] = {True: [], False: []}
    best = (0.0, pretrained)
    for with_pretraining, finetuned in finetunings(pretrained, few, settings, progress):
        scores[with_pretraining].append(finetuned.predictor().evaluate(test).metrics["accuracy"])
        if with_pretraining and finetuned.mean > best[0]:
            best = (finetuned.mean, finetuned.checkpoint)
    save_model(out, best[1])
    (train_texts, train_labels), (texts, labels) = strings(train), strings(test)
    tfidf = tfidf_logistic_regression((train_texts, train_labels), strings(dev), texts)
    return Comparison(
        task="is a sentence about a film an opinion or a fact?",
        train_size=len(train_texts),
        test_size=len(texts),
        pretrained=tuple(scores[True]),
        not_pretrained=tuple(scores[False]),
        tfidf=tfidf.accuracy(labels),
        majority=majority_class(train_labels, len(texts)).accuracy(labels),
    )


def finetunings(
    pretrained: Checkpoint, train: Path, settings: Settings | None = None, progress: Progress = silent
) -> Iterator[tuple[bool, Finetuned]]:
    """For each seed, `pretrained` fine-tuned on `train`, and its twin without pretraining; True for the first."""
    settings = settings or Settings()
    for number, seed in enumerate(settings.seeds):
        for place, start in enumerate((pretrained, random_twin(pretrained, seed))):
            run = Finetuning(
                task="classify",
                model=start,
                train=train,
                dev=DATA / "dev.tsv",
                epochs=settings.epochs,
                batch_size=BATCH_SIZE,
                seeds=(seed,),
            )
            note = f"{'without' if place else 'with'} pretraining, seed {seed}"
            yield not place, run.finish(_one_of(2 * len(settings.seeds), 2 * number + place, note, progress))


def _one_of(runs: int, number: int, name: str, progress: Progress) -> Progress:
    """Progress of one run among several like it, as progress of them all."""

    def tell(phase: str, done: int, total: int | None, note: str = "") -> None:
        if total is not None:
            progress(phase, number * total + done, runs * total, note or name)

    return tell


def strings(labelled: Labelled) -> tuple[list[str], list[str]]:
    """Single texts and their labels by name, as the baselines take them."""
    return [str(text) for text in labelled.texts], [str(label) for label in labelled.labels]


def _look(
    out: Path,
    pretrained: Checkpoint,
    learned: LearnedTokenizer,
    prepared: Prepared,
    comparison: Comparison,
    settings: Settings,
    progress: Progress,
) -> DemoResult:
    model, tokenizer = pretrained.model, pretrained.tokenizer
    log = tuple(read_log(out / "pretraining"))
    steps = [record for record in log if "train" in record]
    heldout = [record["heldout"] for record in log if "heldout" in record][-1]
    config, losses = model.config.encoder, reference_losses(Shards.load(out / "shards", thorough=False))
    return DemoResult(
        corpus=CorpusFacts(
            name="film reviews",
            documents=prepared.counts.documents,
            words=prepared.counts.words,
            licence=LICENCE,
        ),
        vocabulary=VocabularyFacts(
            size=len(tokenizer.vocabulary),
            fertility=learned.statistics.fertility,
            unknown_rate=learned.statistics.unknown_rate,
        ),
        model=ModelFacts(
            name="BERT",
            num_hidden_layers=config.num_hidden_layers,
            hidden_size=config.hidden_size,
            num_attention_heads=model.encoder.blocks[0].attention.num_attention_heads,  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
            parameters=sum(p.numel() for p in model.parameters()),
        ),
        seconds={},  # known when this is done
        log=log,
        references=ReferenceLines(ln_v=losses["uniform"], unigram=losses["unigram"]),
        heldout=HeldoutFigures(
            masked_lm_loss=heldout["masked_lm"]["loss"],
            masked_lm_accuracy=heldout["masked_lm"]["accuracy"],
            next_sentence_accuracy=heldout["next_sentence"]["accuracy"],
        ),
        tokens_per_second=sum(r["tokens"] for r in steps) / sum(r["seconds"] for r in steps),
        comparison=comparison,
        fills=tuple(
            Fill(text, tuple((c.token, c.probability) for c in fill(model, tokenizer, text)[0])) for text in FILLS
        ),
        neighbourhoods=_neighbourhoods(pretrained, settings.words, progress),
        attention=attention(model, tokenizer, ATTENTION),
        model_folder=out / "pretraining" / "model",
        commands=(
            f'bertsmith fill --model {out}/pretraining "the acting is [MASK] ."',
            f'bertsmith embed --model {out}/pretraining --text "a quiet , moving film ."',
            f"bertsmith evaluate --model {out}/finetuned {_from_here(DATA / 'test.tsv')}",
            f"bertsmith models show {out}/pretraining",
        ),
    )


def _from_here(path: Path) -> Path:
    """`path` as somebody in the current directory would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _neighbourhoods(pretrained: Checkpoint, words: int, progress: Progress) -> tuple[Neighbourhood, ...]:
    sentences = (line for document in read_documents(OTHER_REVIEWS) for line in document.text.split("\n"))
    vectors = WordVectors.collect(pretrained.model, pretrained.tokenizer, sentences, max_words=words, progress=progress)
    return tuple(Neighbourhood(word, sentence, tuple(vectors.nearest(word, sentence))) for word, sentence in CONTEXTS)
