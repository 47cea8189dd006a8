"""The routes of OpenAI's embeddings, which its client and many others speak."""

import base64

import numpy as np

from bertsmith.embed import finished
from bertsmith.serve.bodies import Embedding, Embeddings, EmbeddingsRequest, Model, ModelList, Usage
from bertsmith.serve.call import Call
from bertsmith.serve.errors import Invalid, NotFound
from bertsmith.serve.house import House
from bertsmith.serve.models import ServedModel
from bertsmith.serve.route import Route, texts_of


async def embeddings(call: Call, body: EmbeddingsRequest) -> Embeddings:
    model = call.house.models.able("embed", body.model)
    check_dimensions(model, body.dimensions)
    rows = await call.run(model.vectors, texts_of(body.input, "input"))
    vectors = finished(np.stack(rows), body.dimensions, normalize=True)
    shown = map(_base64, vectors) if body.encoding_format == "base64" else vectors
    data = [Embedding(number, vector, call.truncated[number]) for number, vector in enumerate(shown)]
    return Embeddings(data, model.name, Usage(call.tokens, call.tokens))


async def models(call: Call, body: None) -> ModelList:
    return ModelList([_described(call.house, model) for model in call.house.models.models])


async def model(call: Call, body: None) -> Model:
    for one in call.house.models.models:
        if one.name == call.path["model"]:
            return _described(call.house, one)
    raise NotFound("There is no such model here: see /v1/models.", param="model")


def check_dimensions(model: ServedModel, dimensions: int | None) -> None:
    """Invalid if the vectors have fewer."""
    size = model.vectors.embedder.size
    if dimensions is not None and dimensions > size:
        raise Invalid(f"dimensions: the model's vectors have {size} numbers.", param="dimensions")


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _described(house: House, model: ServedModel) -> Model:
    search = ["search"] if model is house.index_model else []
    embedder = model.vectors.embedder
    return Model(model.name, house.started, [*model.abilities, *search], embedder.max_length, embedder.size)


ROUTES = (
    Route(
        path="/v1/embeddings",
        handle=embeddings,
        body=EmbeddingsRequest,
        answer=Embeddings,
        group="OpenAI",
        summary="Vectors of texts",
    ),
    Route(path="/v1/models", handle=models, answer=ModelList, group="OpenAI", summary="What is served"),
    Route(path="/v1/models/{model}", handle=model, answer=Model, group="OpenAI", summary="One of them"),
)
