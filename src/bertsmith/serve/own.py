"""The routes of bert-as-service, and those that are ours: filling masks, searching, pages, states of the server."""

import asyncio
from typing import Any

import numpy as np

from bertsmith.embed import finished
from bertsmith.errors import DataError, UsageError
from bertsmith.search import Hit
from bertsmith.serve import bodies
from bertsmith.serve.bodies import EncodeRequest, FillRequest, SearchRequest
from bertsmith.serve.call import Call
from bertsmith.serve.errors import CannotDo, Empty, Invalid, Unavailable
from bertsmith.serve.route import Route

PAIR = " ||| "


async def encode(call: Call, body: EncodeRequest) -> bodies.Encoded:
    service = call.house.models.able("embed").vectors
    rows = await call.run(service, [_text(one, is_tokenized=body.is_tokenized) for one in body.texts])
    vectors = finished(np.stack(rows), None, normalize=service.embedder.normalize)
    return bodies.Encoded(body.id, vectors, call.truncated)


async def fill(call: Call, body: FillRequest) -> bodies.Filled:
    model = call.house.models.able("fill", body.model)
    assert model.masks is not None, "it is able"
    (masks,) = await call.run(model.masks, [body.text])
    shown = [[bodies.Candidate(c.token, c.probability) for c in mask[: body.k]] for mask in masks]
    return bodies.Filled(shown, model.name, call.truncated[0])


async def search(call: Call, body: SearchRequest) -> bodies.Hits:
    finder, queries = call.house.finder, call.house.queries
    if finder is None or queries is None:
        raise CannotDo("There is no index: begin the server with --index.")
    if not body.query.strip():
        raise Empty("query: there is nothing to look for.", param="query")
    vector = None if body.mode == "text" else (await call.run(queries, [body.query]))[0]
    reranker = call.house.models.able("rerank") if body.rerank else None
    depth = max(body.k, 100) if reranker else body.k

    def look() -> list[Hit]:
        return finder.index.search(vector, body.query, k=depth, mode=body.mode, where=body.where, exact=body.exact)

    try:
        hits = await asyncio.get_running_loop().run_in_executor(call.house.searcher, look)
    except (UsageError, DataError) as error:
        if body.where is None:
            raise Invalid("The query points nowhere, so nothing is near it.", param="query") from error
        columns = ", ".join(f"{name} ({kind})" for name, kind in finder.index.description.columns.items()) or "none"
        raise Invalid(
            f"where: the condition cannot be understood. It is SQL; columns beside id and text: {columns}.",
            param="where",
        ) from error
    if reranker and hits:
        assert reranker.reranker is not None and reranker.predictions is not None, "it is able"
        score = reranker.reranker.score
        found = await call.run(reranker.predictions, [(body.query, hit.text) for hit in hits])
        order = sorted(range(len(hits)), key=lambda number: -score(found[number].prediction))
        hits = [hits[number] for number in order]
    return bodies.Hits(
        [bodies.Found(rank, hit.id, hit.text, dict(hit.fields)) for rank, hit in enumerate(hits[: body.k], start=1)]
    )


async def live(call: Call, body: None) -> None:
    """The process runs."""


async def ready(call: Call, body: None) -> None:
    if call.house.draining:
        raise Unavailable("The server is stopping.")
    await call.house.check_health()


def _text(given: str | list[str], *, is_tokenized: bool) -> Any:
    if is_tokenized != isinstance(given, list):
        raise Invalid("texts: lists of words go with is_tokenized, texts without.", param="texts")
    if isinstance(given, list):
        given = " ".join(given)
    first, pair, second = given.partition(PAIR)
    return (first, second) if pair else given


ROUTES = (
    Route(
        path="/encode",
        handle=encode,
        body=EncodeRequest,
        answer=bodies.Encoded,
        group="bert-as-service",
        summary="Vectors of texts or pairs",
    ),
    Route(
        path="/fill",
        handle=fill,
        body=FillRequest,
        answer=bodies.Filled,
        group="bertsmith",
        summary="The likeliest tokens for each [MASK]",
    ),
    Route(
        path="/search",
        handle=search,
        body=SearchRequest,
        answer=bodies.Hits,
        group="bertsmith",
        summary="The texts of the index that answer a query",
    ),
    Route(path="/live", handle=live, group="bertsmith", summary="Whether the process runs", open=True),
    Route(
        path="/ready",
        handle=ready,
        group="bertsmith",
        summary="Whether to send requests here: 503 once it is told to stop",
        open=True,
    ),
)
