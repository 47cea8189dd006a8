"""One seed's run of a fine-tuning: a model, the order of its examples, and its best epoch so far."""

from collections.abc import Iterator

import numpy as np
import torch

from bertsmith.data import Drawn, Example, KeyedPermutation, Position, generator, pack
from bertsmith.embed import Running
from bertsmith.nn import Model
from bertsmith.tasks.material import Material
from bertsmith.tasks.prediction import Evaluation
from bertsmith.tasks.result import SeedRun
from bertsmith.tasks.scoring import for_prediction, score
from bertsmith.tasks.starting import with_new_head
from bertsmith.tasks.task import Task
from bertsmith.train import Loop, Step

ROW = 128  # tokens a packed row, unless a text is longer


class Trainee:
    """The model of one seed, its dev scores after each epoch, and the weights of the best one."""

    def __init__(self, material: Material, seed: int, *, patience: int | None = None, freeze: bool = False) -> None:
        """A pretrained model under a new head; training ends after `patience` epochs that are no better."""
        self.material = material
        self.seed = seed
        self.has_finished = False
        self._patience = patience
        self._last_gain = 0
        self.model = with_new_head(material.start, material.task, seed, freeze=freeze)
        self._metric = material.task.metric
        self._evaluations: list[Evaluation] = []
        self._best: SeedRun | None = None
        self._best_task = material.task
        self._best_weights: dict[str, torch.Tensor] = {}

    def train(self, loop: Loop, batch_size: int) -> Iterator[tuple[int, Step, Evaluation | None]]:
        """The steps of `loop`, each with its epoch from 1, and with the dev scores where it is an epoch's last.

        `has_finished` is True from the last step on.
        """
        for update in loop.run(self._batches(batch_size)):
            if update.position.index:
                yield update.position.epoch + 1, update, None
                continue
            dev = self._evaluate()
            waited = update.position.epoch - self._last_gain
            self.has_finished = update.step == loop.steps or (self._patience is not None and waited >= self._patience)
            yield update.position.epoch, update, dev
            if self.has_finished:
                return

    def outcome(self) -> SeedRun:
        """The best epoch."""
        assert self._best is not None, "an epoch has been trained"
        return self._best

    def best_model(self) -> tuple[Model, Task]:
        """The model as it was after the best epoch, on the CPU, and the task with what was chosen for it on dev."""
        self.model.to("cpu").encoder.stream_dtype = torch.float32
        self.model.load_state_dict(self._best_weights)
        self.model.requires_grad_(True)
        return self.model, self._best_task

    def _batches(self, batch_size: int) -> Iterator[Drawn]:
        """Batches with the position after each; every epoch has an order of its own, a function of seed and epoch."""
        lessons = self.material.lessons
        pad_id = self.material.start.tokenizer.vocabulary.pad_id
        position = Position()
        while True:
            order = KeyedPermutation(len(lessons), self.seed, position.epoch)
            end = min(position.index + batch_size, len(lessons))
            numbers = order(np.arange(position.index, end)).tolist()
            drawn = [example for number in numbers for example in self._draw(number, position.epoch)]
            position = Position(position.epoch, end) if end < len(lessons) else Position(position.epoch + 1, 0)
            yield Drawn((pack(drawn, length=max(ROW, *map(len, drawn)), pad_id=pad_id),), position)

    def _draw(self, number: int, epoch: int) -> tuple[Example, ...]:
        """One of a lesson's alternatives, by seed and epoch."""
        lesson = self.material.lessons[number]
        if len(lesson) == 1:
            return lesson[0]
        return lesson[int(generator(self.seed, "window", epoch, number).integers(len(lesson)))]

    def _evaluate(self) -> Evaluation:
        task, dev, windows = self.material.task, self.material.dev, self.material.dev_windows
        labels = dev.labels
        with for_prediction(self.model) as model:
            scores = score(task, Running(model, self.material.start.tokenizer), windows)
        predictions = list(map(task.predict, dev.texts, windows, scores))
        if (tuned := task.tuned(labels, predictions)) != task:
            task, predictions = tuned, list(map(tuned.predict, dev.texts, windows, scores))
        dev = task.evaluate(labels, predictions)
        self._evaluations.append(dev)
        if self._best is None or dev.metrics[self._metric] > self._best.dev.metrics[self._metric]:
            self._last_gain = len(self._evaluations)
        # On a tie the later epoch: its learning rate was lower, so its weights have come to rest.
        if self._best is None or dev.metrics[self._metric] >= self._best.dev.metrics[self._metric]:
            collapsed = task.is_collapsed(labels, predictions)
            self._best = SeedRun(seed=self.seed, epoch=len(self._evaluations), dev=dev, collapsed=collapsed)
            state = self.model.state_dict()
            self._best_task = task
            self._best_weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
        return dev
