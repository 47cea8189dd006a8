"""Vectors for texts of one's own: a model is trained on texts without labels, and measured before and after.

OUT is a model folder like any other.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertsmith.checkpoints import Checkpoint, load_model, save_model
from bertsmith.config import require, to_dict
from bertsmith.data import Drawn, Example, KeyedPermutation, Position, generator, pack
from bertsmith.data.records import Format
from bertsmith.embed import Embedder
from bertsmith.embed.reading import read_text_file
from bertsmith.errors import DataError, UsageError
from bertsmith.folders import sha256_of
from bertsmith.nn import Model
from bertsmith.nn.dropout import Dropout
from bertsmith.objectives import Contrastive
from bertsmith.progress import Progress, silent
from bertsmith.tasks.metrics import spearman
from bertsmith.tasks.reading import read_labelled
from bertsmith.tasks.regression import Regress
from bertsmith.tasks.views import Crops, Views
from bertsmith.train import AdamW, Loop, Optimizer, Step, WarmupLinear, find_device, precision_dtype

ROW = 128
FEWEST = 8  # words a text, to be in the test of halves
_HELDOUT = 500
_LEAST_TEXTS = 20


@dataclass(frozen=True)
class Alike:
    """How well vectors tell what belongs together.

    Attributes:
        halves: texts that were not trained on, cut in two: the mean reciprocal rank of the second half of a text among all
            second halves, by cosine with its first half. 1 is perfect; guessing has about ln(n) / n for n texts.
        pairs: Spearman's correlation of cosines with what people said, where there is a file of pairs.
    """

    halves: float
    pairs: float | None = None


@dataclass(frozen=True)
class Adapted:
    """The result: the model, how good it was and is, and on how many texts that was seen."""

    checkpoint: Checkpoint
    before: Alike
    after: Alike
    heldout: int

    def lines(self) -> list[str]:
        """What it was worth, for people."""
        before, after = self.before, self.after
        said = [
            f"halves of a text find each other: {before.halves:.3f} before, {after.halves:.3f} after (mean reciprocal rank "
            f"among {self.heldout:,} texts not trained on)"
        ]
        if before.pairs is not None and after.pairs is not None:
            said.append(f"pairs, Spearman's correlation: {before.pairs:.4f} before, {after.pairs:.4f} after")
        if after.halves <= before.halves:
            said.append("It did not help. Try --views same, more texts, more epochs or another --learning-rate.")
        return said


@dataclass(frozen=True)
class AdaptReport:
    """One optimizer step of `steps`; `result` is set on the last, when the model is saved."""

    step: int
    steps: int
    update: Step
    result: Adapted | None = None


@dataclass(frozen=True, kw_only=True)
class Adapting:
    """Training on texts without labels, so that texts that belong together get vectors that are alike. Iterate `run()`.

    Attributes:
        model: a model folder, or a loaded model. Its own pooling is what is trained.
        texts: a file of texts, as `embed` reads them; a twentieth of them, 500 at most, is held out.
        out: the model folder to write, which must not be there yet; None keeps the result in memory only.
        pairs: a file of pairs of texts with a number that says how alike they are, to be measured before and after.
        views: what the two views of a text are: stretches of it, or the text itself under dropout.
        epochs: passes over the texts.
        batch_size: texts a step; each has to be told from all others of its batch.
        learning_rate: its peak; None is 3e-5 at BERT-base's width of 768, more for smaller models in proportion.
        temperature: what cosines are divided by.
        max_length: tokens of a text that are used at most; None is the model's limit.
        device: where to train: cpu, or cuda where there is one.
    """

    model: str | Path | Checkpoint
    texts: str | Path
    out: str | Path | None = None
    pairs: str | Path | None = None
    format: Format = "auto"
    field: str | None = None
    views: Views = Crops()
    epochs: int = 1
    batch_size: int = 64
    learning_rate: float | None = None
    warmup: float = 0.1
    temperature: float = 0.05
    max_length: int | None = None
    seed: int = 0
    optimizer: Optimizer = AdamW()
    precision: str = "auto"
    device: str = "cpu"

    def __post_init__(self) -> None:
        require(self.epochs > 0, "epochs", f"expected at least 1, got {self.epochs}")
        require(self.batch_size > 1, "batch_size", f"expected at least 2 texts, got {self.batch_size}")
        require(self.precision in ("auto", "float32", "bfloat16"), "precision", f"unknown: {self.precision}")
        find_device(self.device)

    def run(self) -> Iterator[AdaptReport]:
        """Measure, train, measure again, save. The last report has the result.

        Raises:
            UsageError: `out` is there already.
            DataError: there are too few texts, or something is wrong in a file.
            TrainingError: a loss is not finite.
        """
        if self.out is not None and Path(self.out).exists():
            raise UsageError(f"{self.out} exists. Choose another folder with -o.")
        train, heldout = self._divided
        before = self._alike(self.start, heldout)
        device = find_device(self.device)
        model = self._in_training(device)
        loop = Loop(
            model=model,
            objectives=(Contrastive(pooling=self.start.pooling, temperature=self.temperature),),
            optimizer=self.optimizer.build(model),
            schedule=WarmupLinear(peak=self._rate, warmup_steps=int(self._steps * self.warmup)),
            steps=self._steps,
            seed=self.seed,
        )
        for update in loop.run(self._batches(train)):
            report = AdaptReport(update.step, self._steps, update)
            if update.step == self._steps:
                report = replace(report, result=self._finish(model, before, heldout))
            yield report

    def finish(self, progress: Progress = silent) -> Adapted:
        """`run()` to its end."""
        result = None
        for report in self.run():
            progress("adapting", report.step, report.steps)
            result = report.result
        assert result is not None
        return result

    @cached_property
    def start(self) -> Checkpoint:
        """The model as it was; without a head, whose states will have changed under it."""
        loaded = self.model if isinstance(self.model, Checkpoint) else load_model(self.model)
        config = loaded.model.config
        bare = replace(config, heads={}).build()
        bare.load_state_dict({n: t for n, t in loaded.model.state_dict().items() if not n.startswith("heads.")})
        return replace(loaded, model=bare.eval(), task=None)

    @cached_property
    def _divided(self) -> tuple[list[str], list[str]]:
        """Texts to train on, and texts held out. A text that is there again is used once."""
        fields = () if self.field is None else (self.field,)
        found = read_text_file(Path(self.texts), format=self.format, fields=fields)
        texts = list(dict.fromkeys(one.text for one in found.texts if isinstance(one.text, str) and one.text.strip()))
        if len(texts) < _LEAST_TEXTS:
            raise DataError(f"{self.texts}: {len(texts)} different texts, and at least {_LEAST_TEXTS} are needed.")
        order = KeyedPermutation(len(texts), self.seed, 0)(np.arange(len(texts))).tolist()
        count = min(_HELDOUT, max(len(texts) // 20, 5))
        return [texts[i] for i in order[count:]], [texts[i] for i in order[:count]]

    @property
    def _steps(self) -> int:
        return max(1, len(self._divided[0]) // self.batch_size) * self.epochs

    @property
    def _rate(self) -> float:
        width = self.start.model.config.encoder.hidden_size
        return self.learning_rate or min(3e-4, 3e-5 * 768 / width)

    def _in_training(self, device: torch.device) -> Model:
        """A copy of the model, with the dropout that the views need."""
        model = self.start.model.config.build()
        model.load_state_dict(self.start.model.state_dict())
        for module in model.modules():
            if isinstance(module, Dropout):
                module.rate = max(module.rate, self.views.dropout)
        model.to(device).encoder.stream_dtype = precision_dtype(self.precision, device)  # pyright: ignore[reportArgumentType]
        return model

    def _batches(self, texts: list[str]) -> Iterator[Drawn]:
        """Whole batches with the position after each; what is left over at the end of an epoch has to wait."""
        tokenizer = self.start.tokenizer
        vocabulary = tokenizer.vocabulary
        limit = min(self.max_length or tokenizer.max_length, self.start.model.config.encoder.max_length)
        encoded = [np.array(tokenizer.encode(text, max_length=limit - 2).ids, np.int64) for text in texts]
        encoded = [ids for ids in encoded if len(ids)]
        size, epoch = min(self.batch_size, len(encoded)), 0
        while True:
            order = KeyedPermutation(len(encoded), self.seed, epoch)
            for begin in range(0, len(encoded) - size + 1, size):
                examples: list[Example] = []
                for number in order(np.arange(begin, begin + size)).tolist():
                    ids = encoded[number]
                    starts = np.flatnonzero(~vocabulary.is_continuation[ids])
                    starts = np.union1d([0], starts)
                    for view in self.views(ids, starts, generator(self.seed, "views", epoch, number)):
                        framed = np.concatenate([[vocabulary.cls_id], view, [vocabulary.sep_id]])
                        special = np.zeros(len(framed), bool)
                        special[[0, -1]] = True
                        fields = {
                            "input_ids": framed,
                            "token_type_ids": np.zeros_like(framed),
                            "special_tokens": special,
                        }
                        examples.append(Example(fields))
                batch = pack(examples, length=max(ROW, *map(len, examples)), pad_id=vocabulary.pad_id)
                yield Drawn((batch,), Position(epoch, begin + size))
            epoch += 1

    def _alike(self, checkpoint: Checkpoint, heldout: list[str]) -> Alike:
        embedder = Embedder(checkpoint)
        pairs = None
        if self.pairs is not None:
            found = read_labelled(self.pairs, Regress)
            if len(found.layout.columns.texts) != 2:
                raise DataError(f"{self.pairs}: {found.layout}. Pairs of texts are needed, and a number for each.")
            first, second = (_unit(embedder, [str(texts[i]) for texts in found.texts]) for i in (0, 1))  # pyright: ignore[reportIndexIssue]
            said = [float(label) for label in found.labels if isinstance(label, float)]
            pairs = spearman(said, (first * second).sum(1))
        return Alike(reciprocal_rank(embedder, heldout), pairs)

    def _finish(self, model: Model, before: Alike, heldout: list[str]) -> Adapted:
        bare = self.start.model.config.build()
        bare.load_state_dict({name: tensor.to("cpu") for name, tensor in model.state_dict().items()})
        lineage = {
            "adapted_from": {"path": str(self.start.path), "lineage": dict(self.start.lineage)},
            "texts": {"path": str(self.texts), "sha256": sha256_of(Path(self.texts))},
            "settings": self._settings,
        }
        path = None if self.out is None else Path(self.out)
        checkpoint = replace(self.start, model=bare.eval(), lineage=lineage, path=path)
        if path is not None:
            save_model(path, checkpoint)
        return Adapted(checkpoint, before, self._alike(checkpoint, heldout), len(heldout))

    @property
    def _settings(self) -> dict[str, Any]:
        names = ("epochs", "batch_size", "warmup", "temperature", "max_length", "seed")
        return {name: getattr(self, name) for name in names} | {
            "learning_rate": self._rate,
            "views": to_dict(self.views),
            "optimizer": self.optimizer.kind,
        }


def reciprocal_rank(embedder: Embedder, texts: list[str]) -> float:
    """`Alike.halves` of these texts; those of fewer than eight words stay out."""
    words = [words for text in texts if len(words := text.split()) >= FEWEST]
    if len(words) < 2:
        raise DataError(f"Fewer than 2 of the texts held out have {FEWEST} words or more: there is nothing to measure.")
    first = _unit(embedder, [" ".join(one[: len(one) // 2]) for one in words])
    second = _unit(embedder, [" ".join(one[len(one) // 2 :]) for one in words])
    cosines = first @ second.T
    ranks = (cosines >= np.diag(cosines)[:, None]).sum(1)  # equal ones count against it
    return float((1 / ranks).mean())


def _unit(embedder: Embedder, texts: list[str]) -> np.ndarray:
    vectors = embedder.embed(texts).vectors
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
