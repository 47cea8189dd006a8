"""The models that are served, and what each can do."""

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property

from bertsmith.embed import Embedder, EmbedOptions, Lane
from bertsmith.errors import UsageError
from bertsmith.model import LoadedModel
from bertsmith.retrieval import Reranker
from bertsmith.serve.errors import CannotDo
from bertsmith.serve.services import Masks, Predictions, States, Vectors
from bertsmith.tasks import Predictor, Texts

Ability = str
"""embed, predict, rerank or fill."""


class ServedModel:
    """One model under the name that clients know it by. Its services are made when it is, so that nothing fails later.

    Attributes:
        embedder: how its vectors are made.
        sha256: of the weights that vectors come from.
        vectors, states: every model has them.
        predictions: where it was fine-tuned.
        masks: where it has a masked-LM head.
        reranker: where it was fine-tuned on pairs, and it is clear which label says that a text answers a query.
    """

    def __init__(self, name: str, model: LoadedModel, lane: Lane) -> None:
        self.name, self.model = name, model
        self.embedder = Embedder(model.checkpoint, EmbedOptions(lane=lane))
        self.sha256 = self.embedder.weights_sha256
        self.vectors, self.states = Vectors(self.embedder), States(self.embedder)
        task = model.checkpoint.task
        self.predictions = None if task is None else Predictions(Predictor(model.checkpoint, lane=lane))
        self.masks = Masks(model) if "masked_lm" in model.checkpoint.model.heads else None
        self.reranker: Reranker | None = None
        if task is not None:
            with suppress(UsageError):  # it reads single texts, or its labels do not say
                self.reranker = Reranker(model)

    @property
    def abilities(self) -> tuple[Ability, ...]:
        """What can be asked of it."""
        there = {"predict": self.predictions, "rerank": self.reranker, "fill": self.masks}
        return ("embed", *(name for name, service in there.items() if service is not None))

    @cached_property
    def prompts(self) -> dict[str, str]:
        """Texts that the model's folder wants before a text, by name."""
        found = self.model.checkpoint.sentence.get("prompts") or {}
        return {str(name): str(text) for name, text in found.items()}


class Models:
    """All of them. Where a request names none of them, the first that can do what it asks for answers."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        if not models:
            raise UsageError("There is no model to serve.")
        names = [model.name for model in models]
        if len(set(names)) < len(names):
            raise UsageError(f"Two models have the same name: {', '.join(names)}. Serve folders of different names.")
        self.models = tuple(models)

    def able(self, ability: Ability, name: str | None = None) -> ServedModel:
        """The model called `name` if it can do this, else the first that can.

        Raises:
            CannotDo: none can.
        """
        return self._able(ability, name)[0]

    def predicting(self, examples: Sequence[Texts], name: str | None = None) -> Predictions:
        """The predictions of the model called `name`, else of the first that takes such examples, else of the first.

        Raises:
            CannotDo: none was fine-tuned.
        """
        able = self._able("predict", name)
        services = [model.predictions for model in able if model.predictions is not None]
        fitting = [service for service in services if all(map(service.takes, examples))]
        return (fitting if fitting and able[0].name != name else services)[0]

    def _able(self, ability: Ability, name: str | None) -> list[ServedModel]:
        able = [model for model in self.models if ability in model.abilities]
        if not able:
            raise CannotDo(_MISSING[ability])
        return sorted(able, key=lambda model: model.name != name)


_MISSING = {
    "predict": "No model that is served was fine-tuned, so there is nothing to predict.",
    "rerank": "No model that is served reads a query and a text together. Serve one of bertsmith finetune pair.",
    "fill": "No model that is served has a masked-LM head, so masks cannot be filled.",
}
