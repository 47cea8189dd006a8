"""The routes of text-embeddings-inference."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bertsmith.embed import finished
from bertsmith.serve import bodies
from bertsmith.serve.bodies import (
    DecodeRequest,
    EmbedAllRequest,
    EmbedRequest,
    Label,
    PredictRequest,
    Rank,
    RerankRequest,
    SimilarityRequest,
    Token,
    TokenizeRequest,
)
from bertsmith.serve.call import Call
from bertsmith.serve.errors import Empty, Invalid
from bertsmith.serve.models import ServedModel
from bertsmith.serve.openai import check_dimensions
from bertsmith.serve.route import Route, texts_of
from bertsmith.serve.services import Predicted
from bertsmith.tasks import Texts
from bertsmith.text import Encoding, Tokenizer


async def embed(call: Call, body: EmbedRequest) -> Any:
    model = call.house.models.able("embed")
    check_dimensions(model, body.dimensions)
    texts = _prompted(model, texts_of(body.inputs, "inputs"), body.prompt_name)
    rows = await call.run(model.vectors, texts, cut=_cut(body))
    return finished(np.stack(rows), body.dimensions, normalize=body.normalize)


async def embed_all(call: Call, body: EmbedAllRequest) -> Any:
    model = call.house.models.able("embed")
    texts = _prompted(model, texts_of(body.inputs, "inputs"), body.prompt_name)
    return await call.run(model.states, texts, cut=_cut(body))


async def similarity(call: Call, body: SimilarityRequest) -> list[float]:
    model = call.house.models.able("embed")
    parameters = body.parameters or bodies.SimilarityParameters()
    texts = texts_of([body.inputs.source_sentence, *body.inputs.sentences], "inputs")
    if not body.inputs.sentences:
        raise Empty("inputs: there are no sentences to compare with.")
    rows = await call.run(model.vectors, _prompted(model, texts, parameters.prompt_name), cut=_cut(parameters))
    vectors = finished(np.stack(rows), None, normalize=True)
    return np.clip(vectors[1:] @ vectors[0], -1, 1).tolist()


async def predict(call: Call, body: PredictRequest) -> Any:
    several = isinstance(body.inputs, list) and bool(body.inputs) and isinstance(body.inputs[0], list)
    if several and any(isinstance(one, str) for one in body.inputs):
        raise Invalid("Each of the inputs is a list of texts, or none is.", param="inputs")
    inputs = [_example(one) for one in body.inputs] if several else [_example(body.inputs)]
    service = call.house.models.predicting(inputs, body.model)
    found = await call.run(service, inputs, cut=_cut(body))
    labels = tuple(getattr(service.predictor.task, "labels", ("score",)))
    answers = [_answer(one, labels, raw=body.raw_scores) for one in found]
    return answers if several else answers[0]


async def rerank(call: Call, body: RerankRequest) -> list[Rank]:
    model = call.house.models.able("rerank", body.model)
    reranker, service = model.reranker, model.predictions
    assert reranker is not None and service is not None, "it is able"
    if not body.query or not all(body.texts):
        raise Empty("The query or a text is empty.")
    found: list[Predicted] = await call.run(service, [(body.query, text) for text in body.texts], cut=_cut(body))
    scores = [_score(reranker.score(one.prediction), one, raw=body.raw_scores) for one in found]
    order = sorted(range(len(scores)), key=lambda number: -scores[number])
    return [Rank(n, scores[n], body.texts[n]) if body.return_text else Rank(n, scores[n]) for n in order]


async def tokenize(call: Call, body: TokenizeRequest) -> list[list[Token]]:
    model = call.house.models.able("embed")
    texts = _prompted(model, texts_of(body.inputs, "inputs"), body.prompt_name)
    tokenizer, most = model.model.tokenizer, call.house.options.limits.request_tokens

    def tokens(text: str) -> list[Token]:
        return _tokens(tokenizer.encode(text, special_tokens=body.add_special_tokens, max_length=most))

    return await call.tokenized(texts, tokens)


async def decode(call: Call, body: DecodeRequest) -> list[str]:
    tokenizer = call.house.models.able("embed").model.tokenizer
    rows = texts_of(body.ids, "ids")
    if any(not 0 <= index < len(tokenizer.vocabulary) for row in rows for index in row):  # pyright: ignore[reportOperatorIssue]
        raise Invalid(f"The ids of tokens are 0 to {len(tokenizer.vocabulary) - 1}, and one is not.", param="ids")
    return [_decoded(tokenizer, row, skip=body.skip_special_tokens) for row in rows]  # pyright: ignore[reportArgumentType]


async def info(call: Call, body: None) -> bodies.Info:
    house, limits = call.house, call.house.options.limits
    model = house.models.models[0]
    embedder = model.vectors.embedder
    return bodies.Info(
        model_id=model.name,
        model_sha=model.sha256,
        model_dtype=embedder.lane.kind,
        served_model_name=model.name,
        model_type=_model_type(model),
        max_concurrent_requests=limits.queue_requests,
        max_input_length=embedder.max_length,
        max_batch_tokens=limits.batch_tokens,
        max_batch_requests=None,
        max_client_batch_size=limits.texts,
        auto_truncate=True,
        tokenization_workers=1,
        version=house.version,
    )


async def health(call: Call, body: None) -> None:
    await call.house.check_health()


async def metrics(call: Call, body: None) -> bytes:
    return call.house.metrics.text()


def _cut(body: Any) -> bool:
    """Whether texts may be cut at their end; cutting their beginning is not offered."""
    return body.truncate is not False and body.truncation_direction.lower() == "right"


def _prompted(model: ServedModel, texts: Sequence[Any], name: str | None) -> list[Any]:
    if name is None:
        return list(texts)
    if name not in model.prompts or not all(isinstance(text, str) for text in texts):
        raise Invalid("prompt_name: the model has no such prompt, or the texts are ids.", param="prompt_name")
    return [model.prompts[name] + text for text in texts]


def _example(given: Any) -> Texts:
    """A text; a pair or a beginning with its options, as a tuple."""
    if isinstance(given, str):
        given = [given]
    if not all(isinstance(one, str) for one in given):
        raise Invalid("inputs: expected a text, a pair of texts, or a list of such lists.", param="inputs")
    if not given or not all(given):
        raise Empty("inputs: there is an empty text, or none at all.", param="inputs")
    return given[0] if len(given) == 1 else tuple(given)


def _answer(found: Predicted, labels: Sequence[str], *, raw: bool) -> Any:
    """Labels with their scores, best first; what other tasks find is given as `bertsmith predict` gives it."""
    prediction = found.prediction
    if found.raw is None:
        return prediction.as_dict()
    if raw:
        scores = found.raw.tolist()
    elif prediction.probabilities is not None:
        scores = [prediction.probabilities[label] for label in labels]
    else:
        scores = [prediction.score or 0.0]
    order = sorted(range(len(labels)), key=lambda number: -scores[number])
    return [Label(scores[number], labels[number]) for number in order]


def _score(score: float, found: Predicted, *, raw: bool) -> float:
    """Between 0 and 1, or as a logit."""
    if found.prediction.probabilities is None:
        return score if raw else 1 / (1 + math.exp(-max(min(score, 500.0), -500.0)))
    bounded = min(max(score, 1e-12), 1 - 1e-12)
    return math.log(bounded / (1 - bounded)) if raw else score


def _tokens(found: Encoding) -> list[Token]:
    if found.truncated:
        raise Invalid(f"A text has more than {len(found)} tokens.", param="inputs")
    rows = zip(found.ids, found.tokens, found.word_ids, found.offsets, strict=True)
    return [
        Token(id, token, word is None, None if word is None else start, None if word is None else end)
        for id, token, word, (start, end) in rows
    ]


def _decoded(tokenizer: Tokenizer, ids: Sequence[int], *, skip: bool) -> str:
    vocabulary = tokenizer.vocabulary
    special = {vocabulary.pad_id, vocabulary.cls_id, vocabulary.sep_id}
    if skip or not special & set(ids):
        return tokenizer.decode(ids)
    parts: list[str] = []
    run: list[int] = []
    for index in [*ids, vocabulary.pad_id]:
        if index in special:
            parts += [tokenizer.decode(run), vocabulary.tokens[index]]
            run = []
        else:
            run.append(index)
    return " ".join(part for part in parts[:-1] if part)


def _model_type(model: ServedModel) -> dict[str, Any]:
    if model.predictions is None:
        return {"embedding": {"pooling": str(model.vectors.embedder.pooling.kind)}}
    task = model.predictions.predictor.task
    labels = getattr(task, "labels", ())
    numbers = {str(number): label for number, label in enumerate(labels)}
    kind = "classifier" if task.kind in ("classify", "pair", "multilabel") else task.kind
    return {kind: {"id2label": numbers, "label2id": {label: int(number) for number, label in numbers.items()}}}


def _route(path: str, handle: Any, summary: str, **more: Any) -> Route:
    return Route(path=path, handle=handle, summary=summary, group="text-embeddings-inference", family="tei", **more)


ROUTES = (
    _route("/embed", embed, "Vectors of texts", body=EmbedRequest, answer=list[list[float]]),
    _route("/embed_all", embed_all, "Vectors of tokens", body=EmbedAllRequest, answer=list[list[list[float]]]),
    _route("/similarity", similarity, "Cosines", body=SimilarityRequest, answer=list[float]),
    _route("/predict", predict, "What a fine-tuned model says", body=PredictRequest, answer=list[Any] | dict[str, Any]),
    _route("/rerank", rerank, "Texts ordered for a query", body=RerankRequest, answer=list[Rank]),
    _route("/tokenize", tokenize, "Tokens of texts", body=TokenizeRequest, answer=list[list[Token]]),
    _route("/decode", decode, "Texts of tokens", body=DecodeRequest, answer=list[str]),
    _route("/info", info, "The server and its first model", answer=bodies.Info),
    _route("/health", health, "Whether the model answers: it reads a word", open=True),
    _route("/ping", health, "The same", open=True),
    _route("/metrics", metrics, "For Prometheus", media="text/plain; version=0.0.4; charset=utf-8"),
)
