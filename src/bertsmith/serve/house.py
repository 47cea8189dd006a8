"""Everything one server has: its models, the index, the queue, counters."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from bertsmith.embed import Lane
from bertsmith.errors import UsageError
from bertsmith.model import LoadedModel
from bertsmith.retrieval import Finder
from bertsmith.serve.batching import Batcher, Place
from bertsmith.serve.errors import Refusal, Unavailable
from bertsmith.serve.logs import JsonLog, Log
from bertsmith.serve.metrics import Metrics
from bertsmith.serve.models import Models, ServedModel
from bertsmith.serve.options import ServeOptions
from bertsmith.serve.services import Queries

FRESH = 1.0  # seconds for which one look at the model's health holds
PATIENCE = 2.0  # seconds that the model may take for it

_WARM = "The server reads a sentence or two before it says that it is ready. " * 8


class House:
    """What the routes work with.

    Attributes:
        finder, index_model, queries: the index that is searched, the model that made it, and what makes vectors of queries;
            None without an index.
        reader: the thread that tokenizes long texts.
        searcher: the threads that look into the index.
    """

    def __init__(
        self,
        models: Sequence[LoadedModel],
        finder: Finder | None = None,
        options: ServeOptions = ServeOptions(),
        *,
        log: Log | None = None,
    ) -> None:
        """Make ready.

        Raises:
            UsageError, CheckpointError: the index was made by a model that is not there.
        """
        served = [ServedModel(_name(model), model, options.lane) for model in models]
        self.options, self.finder, self.log = options, finder, log or JsonLog()
        self.index_model: ServedModel | None = None
        self.queries: Queries | None = None
        if finder is not None:
            self.index_model, self.queries = _searching(finder, served, options.lane)
        self.models = Models(served)
        self.metrics = Metrics()
        self.batcher = Batcher(options.limits, self.metrics.batch)
        self.metrics.watch(
            lambda: len(self.batcher.places), lambda: self.batcher.tokens, lambda: round(self.batcher.rate)
        )
        self.reader = ThreadPoolExecutor(1, "reader")
        self.searcher = ThreadPoolExecutor(2, "search")
        self.started = int(time.time())
        self.version = version("bertsmith")
        self.draining = False
        self._looked = -FRESH
        self._looking = asyncio.Lock()

    async def start(self) -> None:
        """Begin to work, and run the model once or twice, so that the first request does not pay for it."""
        self.batcher.start()
        for model in self.models.models:
            for _ in range(2):
                await self.batcher.run(model.vectors, [model.vectors.read(_WARM)], Place(self.batcher, 0))
        if self.queries is not None:
            await self.batcher.run(self.queries, [self.queries.read("warm")], Place(self.batcher, 0))

    def stop(self) -> None:
        """End all threads."""
        self.batcher.stop()
        self.reader.shutdown(wait=False, cancel_futures=True)
        self.searcher.shutdown(wait=False, cancel_futures=True)

    async def check_health(self) -> None:
        """Have the model read a word, ahead of all that waits.

        Raises:
            Unavailable: it does not answer.
        """
        async with self._looking:
            if self.batcher.is_alive and time.monotonic() - self._looked < FRESH:
                return
            service = self.models.models[0].vectors
            try:
                async with asyncio.timeout(PATIENCE):
                    await self.batcher.run(service, [service.read("health")], Place(self.batcher, 0), urgent=True)
            except (TimeoutError, Refusal):
                raise Unavailable("The model does not answer.", retry_after=1) from None
            self._looked = time.monotonic()


def _searching(finder: Finder, served: list[ServedModel], lane: Lane) -> tuple[ServedModel, Queries]:
    """The served model that made the index, which joins the others if it is none of them, and what makes vectors with it."""
    for one in served:
        with suppress(UsageError):  # it is another model
            return one, Queries(finder.embedder_of(one.embedder))
    served.append(ServedModel(_name(finder.model), finder.model, lane))
    return served[-1], Queries(finder.embedder_of(served[-1].embedder))


def _name(model: LoadedModel) -> str:
    """What clients know a model by: the name of its folder."""
    path = model.checkpoint.path
    return Path(path).absolute().name if path is not None else "model"
