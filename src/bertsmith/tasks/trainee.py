"""One seed's run of a fine-tuning: a model, the order of its examples, and its best epoch so far."""

from collections.abc import Iterator

import numpy as np
import torch

from bertsmith.data import Drawn, KeyedPermutation, Position, pack
from bertsmith.nn import Model
from bertsmith.tasks.material import Material
from bertsmith.tasks.result import SeedRun
from bertsmith.tasks.scoring import score
from bertsmith.tasks.starting import with_new_head
from bertsmith.tasks.task import Evaluation
from bertsmith.train import Loop, Step

ROW = 128  # tokens a packed row, unless a text is longer


class Trainee:
    """The model of one seed, its dev scores after each epoch, and the weights of the best one."""

    def __init__(self, material: Material, seed: int) -> None:
        """A pretrained model under a new head."""
        self.material = material
        self.seed = seed
        self.model = with_new_head(material.start, material.task, seed)
        self._metric = material.task.metric_names[0]
        self._evaluations: list[Evaluation] = []
        self._best: SeedRun | None = None
        self._best_weights: dict[str, torch.Tensor] = {}

    def train(self, loop: Loop, batch_size: int) -> Iterator[tuple[int, Step, Evaluation | None]]:
        """The steps of `loop`, each with its epoch from 1, and with the dev scores where it is an epoch's last."""
        for update in loop.run(self._batches(batch_size)):
            if update.position.index == 0:
                yield update.position.epoch, update, self._evaluate()
            else:
                yield update.position.epoch + 1, update, None

    def outcome(self) -> SeedRun:
        """The best epoch."""
        assert self._best is not None, "an epoch has been trained"
        return self._best

    def best_model(self) -> Model:
        """The model as it was after the best epoch, on the CPU."""
        self.model.to("cpu").encoder.stream_dtype = torch.float32
        self.model.load_state_dict(self._best_weights)
        return self.model

    def _batches(self, batch_size: int) -> Iterator[Drawn]:
        """Batches with the position after each; every epoch has an order of its own, a function of seed and epoch."""
        examples = self.material.examples
        pad_id = self.material.start.tokenizer.vocabulary.pad_id
        position = Position()
        while True:
            order = KeyedPermutation(len(examples), self.seed, position.epoch)
            end = min(position.index + batch_size, len(examples))
            drawn = [examples[i] for i in order(np.arange(position.index, end)).tolist()]
            position = Position(position.epoch, end) if end < len(examples) else Position(position.epoch + 1, 0)
            yield Drawn((pack(drawn, length=max(ROW, *map(len, drawn)), pad_id=pad_id),), position)

    def _evaluate(self) -> Evaluation:
        task, labels = self.material.task, self.material.dev.labels
        scores = score(task, self.model, self.material.start.tokenizer, self.material.dev_encodings)
        cut = np.array([encoding.truncated for encoding in self.material.dev_encodings], np.int64)
        predictions = task.predictions(scores, cut)
        dev = task.evaluate(labels, predictions)
        self._evaluations.append(dev)
        # On a tie the later epoch: its learning rate was lower, so its weights have come to rest.
        if self._best is None or dev.metrics[self._metric] >= self._best.dev.metrics[self._metric]:
            collapsed = task.is_collapsed(labels, predictions)
            self._best = SeedRun(seed=self.seed, epoch=len(self._evaluations), dev=dev, collapsed=collapsed)
            state = self.model.state_dict()
            self._best_weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
        return dev
