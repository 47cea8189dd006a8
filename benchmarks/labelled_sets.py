"""The labelled sets that fine-tuning is measured on, and results that are kept line by line. Not a command."""

import json
import math
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertsmith.checkpoints import Checkpoint
from bertsmith.tasks import Columns, Finetuning

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LENGTH = 128  # tokens a text or pair; SQuAD has as many as the model reads


@dataclass(frozen=True)
class Labelled:
    """A set: where its files are and how they are read. `published` is a figure for BERT-base (Devlin et al. 2018)."""

    task: str
    pack: str
    train: str
    dev: str
    columns: Columns = Columns()
    metric: str | None = None
    published: str = "-"


SETS = {
    "cola": Labelled(
        *("classify", "glue", "CoLA/train.tsv", "CoLA/dev.tsv", Columns(("4",), "2")),
        metric="matthews_correlation",
        published="52.1 MCC, test",
    ),
    "sst2": Labelled("classify", "glue", "SST-2/train.tsv", "SST-2/dev.tsv", published="93.5, test"),
    "mrpc": Labelled("pair", "glue", "MRPC/train.tsv", "MRPC/dev.tsv", published="86.7, dev"),
    "rte": Labelled("pair", "glue", "RTE/train.tsv", "RTE/dev.tsv", published="66.4, test"),
    "stsb": Labelled("regress", "glue", "STS-B/train.tsv", "STS-B/dev.tsv", published="85.8, test"),
    "ewt": Labelled("tag", "ud-en-ewt", "en_ewt-ud-train.rebuilt.conllu", "en_ewt-ud-dev.conllu"),
    "wnut": Labelled("tag", "wnut17", "wnut17train.conll", "emerging.dev.conll"),
    "wikiann": Labelled("tag", "wikiann", "train.conll", "dev.conll"),
    "squad": Labelled("span", "squad-dev", "train.json", "dev.json", published="88.5 F1, full train"),
    "codah": Labelled(
        "choice",
        "codah",
        "data/cv_split/fold_0/train.tsv",
        "data/cv_split/fold_0/dev.tsv",
        Columns(("2", "3", "4", "5", "6"), "7"),
    ),
}


def finetuning(name: str, model: Path | Checkpoint, folder: Path, limit: int | None, **settings: Any) -> Finetuning:
    """The run of a set, with dev and `limit` training examples in a keyed order; files that must be made go to `folder`.

    Dev is cut to `limit` examples too. SQuAD has only its dev part here: its last ten articles are dev, the others train.
    """
    labelled = SETS[name]
    found = subprocess.run([SHARED / "get", labelled.pack], capture_output=True, text=True, check=True)
    pack = Path(found.stdout.strip())
    if name == "squad":
        pack = _squad(pack, folder, limit)
    elif name == "wikiann":
        pack = _wikiann(pack, folder)
    dev = pack / labelled.dev
    if limit is not None and name != "squad":
        text = dev.read_text(encoding="utf-8")
        rows, gap = (text.split("\n\n"), "\n\n") if labelled.task == "tag" else (text.splitlines(), "\n")
        dev = folder / dev.name
        dev.write_text(gap.join(rows[: limit + 1]) + "\n", encoding="utf-8")
    return Finetuning(
        task=labelled.task,
        model=model,
        train=pack / labelled.train,
        dev=dev,
        columns=labelled.columns,
        max_length=None if name == "squad" else LENGTH,
        most=limit,
        **settings,
    )


def metric_of(name: str, job: Finetuning) -> str:
    """The metric by which a set is judged."""
    return SETS[name].metric or job._material.task.metric


def _squad(pack: Path, folder: Path, limit: int | None) -> Path:
    """Train and dev from the one part there is: about `limit` questions of each, from all articles alike."""
    articles = json.loads((pack / "dev-v1.1.rebuilt.json").read_text(encoding="utf-8"))["data"]
    for name, part in (("train.json", articles[:-10]), ("dev.json", articles[-10:])):
        if limit is not None:
            paragraphs = math.ceil(limit / 5 / len(part))  # of about five questions
            part = [article | {"paragraphs": article["paragraphs"][:paragraphs]} for article in part]
        (folder / name).write_text(json.dumps({"data": part}), encoding="utf-8")
    return folder


def _wikiann(pack: Path, folder: Path) -> Path:
    """English train and dev without the language before each word."""
    for name in ("train", "dev"):
        text = (pack / "en" / name).read_text(encoding="utf-8")
        (folder / f"{name}.conll").write_text(re.sub(r"^en:", "", text, flags=re.MULTILINE), encoding="utf-8")
    return folder


class Results:
    """Results by key, written as they come, a JSON line each: a measurement that is broken off goes on where it was."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []
        if path is not None and path.exists():
            self.lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def once(self, key: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """What there is under `key`, or what `make` makes."""
        for line in self.lines:
            if all(line.get(name) == value for name, value in key.items()):
                return line
        line = {**key, **make()}
        self.lines.append(line)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        return line
