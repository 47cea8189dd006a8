"""Using a fine-tuned model: predictions for texts and files, and how good they are."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bertsmith.checkpoints import Checkpoint
from bertsmith.config import from_dict
from bertsmith.data.columns import Columns
from bertsmith.data.records import Format
from bertsmith.embed import Lane, Running
from bertsmith.errors import UsageError
from bertsmith.progress import Progress, silent
from bertsmith.tasks.prediction import Evaluation, Prediction
from bertsmith.tasks.reading import Labelled, UnlabelledTexts, read_labelled, read_texts
from bertsmith.tasks.scoring import for_prediction, score
from bertsmith.tasks.task import Task, Texts, stored_task
from bertsmith.tasks.words import Words
from bertsmith.text.windows import Cutter, Window

CHUNK = 2048  # windows read ahead, so that those of like length can share a batch


class Predictor:
    """A fine-tuned model at work.

    Attributes:
        task: what it predicts, with its labels.
        columns: the columns it was trained with, for reading files; empty for a model from elsewhere.
        text_counts: how many text columns it takes. A model from elsewhere does not say, so it takes what its task allows.
        cutter: how it reads texts, of any length.
        running: the model, and the batches that it reads.
    """

    def __init__(self, checkpoint: Checkpoint, *, device: str = "cpu", lane: Lane | None = None) -> None:
        """Make ready, to compute in the numbers of `lane`: by default in float32.

        Raises:
            UsageError: the model was not fine-tuned, or for a task that is not known here.
        """
        data = checkpoint.task
        if data is None:
            raise UsageError(
                f"{checkpoint.path or 'This model'} was not fine-tuned, so it has nothing to predict. "
                "Fine-tune it first: bertsmith finetune TASK --model MODEL --train FILE --dev FILE -o RUN"
            )
        self.task: Task = stored_task(data)
        self.columns = from_dict(Columns, data["columns"], "columns") if "columns" in data else Columns()
        allowed = self.task.wanted.text_counts
        self.text_counts = (len(self.columns.texts),) if self.columns.texts else (1, 2) if allowed == (1,) else allowed
        limit = min(checkpoint.tokenizer.max_length, checkpoint.model.encoder.config.max_length)
        self.cutter = Cutter(checkpoint.tokenizer, min(limit, int(data.get("max_length") or limit)), data.get("stride"))
        with for_prediction(checkpoint.model.eval().to(device)) as model:
            self.running = Running(model, checkpoint.tokenizer, lane)

    def predict(self, texts: Sequence[Texts], *, progress: Progress = silent) -> list[Prediction]:
        """A prediction for each text or pair of texts, in their order."""
        return list(self.stream(texts, total=len(texts), progress=progress))

    def stream(
        self, texts: Iterable[Texts], *, total: int | None = None, progress: Progress = silent
    ) -> Iterator[Prediction]:
        """Predictions for any number of texts or pairs, in their order, in constant memory.

        Raises:
            UsageError: the model takes pairs and this is a text, or the other way round.
        """
        done = 0
        for chunk, windows in self._chunks(texts):
            scores = score(self.task, self.running, windows)
            done += len(chunk)
            progress("predicting", done, total)
            yield from map(self.task.predict, chunk, windows, scores)

    def evaluate(self, labelled: Labelled, *, progress: Progress = silent) -> Evaluation:
        """Predict the texts of a file (see `read_labelled`) and compare with its labels.

        Raises:
            DataError: a label that the model does not know, with its line.
        """
        return self.judge(labelled, progress=progress)[0]

    def judge(self, labelled: Labelled, *, progress: Progress = silent) -> tuple[Evaluation, list[Prediction]]:
        """`evaluate`, and the predictions that were compared.

        Raises:
            DataError: as `evaluate`.
        """
        self.task.check(labelled)
        predictions = self.predict(labelled.texts, progress=progress)
        return self.task.evaluate(labelled.labels, predictions), predictions

    def read_labelled(self, path: str | Path, *, columns: Columns = Columns(), format: Format = "auto") -> Labelled:
        """The examples of a file, by the columns that the model was trained with where the file has them."""
        return read_labelled(path, self.task, columns=columns, usual=self.columns, format=format)

    def read_texts(self, path: str | Path, *, columns: Columns = Columns(), format: Format = "auto") -> UnlabelledTexts:
        """The texts of a file for `stream`, by the columns that the model was trained with where the file has them."""
        return read_texts(
            path, self.task, text_counts=self.text_counts, columns=columns, usual=self.columns, format=format
        )

    def _chunks(self, texts: Iterable[Texts]) -> Iterator[tuple[list[Texts], list[tuple[Window, ...]]]]:
        """Texts and their windows, in groups of `CHUNK` windows or a few more."""
        chunk: list[Texts] = []
        windows: list[tuple[Window, ...]] = []
        count = 0
        for one in texts:
            self.check(one)
            chunk.append(one)
            windows.append(self.task.windows(one, self.cutter))
            count += len(windows[-1])
            if count >= CHUNK:
                yield chunk, windows
                chunk, windows, count = [], [], 0
        if chunk:
            yield chunk, windows

    def check(self, texts: Texts) -> None:
        """UsageError if the model does not take so many texts at once."""
        count = 1 if isinstance(texts, str | Words) else len(texts)
        if self.task.kind == "choice":
            if count < 3:
                raise UsageError("This model chooses: it takes a beginning and at least two options, as one tuple.")
        elif count not in self.text_counts:
            takes = "pairs of texts, as (first, second)" if self.text_counts == (2,) else "single texts"
            raise UsageError(f"This model was fine-tuned on {takes}, and takes nothing else.")
