"""What is asked and what is answered, as typed values. Their docstrings and types are the OpenAPI description."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

Vector = Annotated[Any, Meta(extra_json_schema={"type": "array", "items": {"type": "number"}})]
"""Numbers, float32 (size,)."""
Matrix = Annotated[
    Any, Meta(extra_json_schema={"type": "array", "items": {"type": "array", "items": {"type": "number"}}})
]
"""Vectors, float32 (texts, size)."""
TokenId = Annotated[int, Meta(ge=0)]
Input = str | list[str | TokenId | list[TokenId]]
"""A text, texts, the ids of a text's tokens, or such lists."""
Dimensions = Annotated[int, Meta(ge=1)] | None


class EmbeddingsRequest(Struct, frozen=True):
    """Vectors in OpenAI's shape. They have length 1; `dimensions` keeps the first so many numbers, at length 1 again."""

    input: Input
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Dimensions = None
    user: str | None = None


class Embedding(Struct, frozen=True):
    """A vector: numbers, or in base64 the bytes of little-endian float32. `truncated`: tokens that were cut."""

    index: int
    embedding: Annotated[
        Any, Meta(extra_json_schema={"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "number"}}]})
    ]
    truncated: int = 0
    object: Literal["embedding"] = "embedding"


class Usage(Struct, frozen=True):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(Struct, frozen=True):
    """Vectors, in the order of the texts. `model` is the one that made them."""

    data: list[Embedding]
    model: str
    usage: Usage
    object: Literal["list"] = "list"


class Model(Struct, frozen=True):
    """A model that is served. `capabilities` are embed, predict, rerank, fill, search."""

    id: str
    created: int
    capabilities: list[str]
    max_input_length: int
    dimensions: int
    object: Literal["model"] = "model"
    owned_by: str = "bertsmith"


class ModelList(Struct, frozen=True):
    """All of them."""

    data: list[Model]
    object: Literal["list"] = "list"


class EmbedRequest(Struct, frozen=True):
    """Texts, or ids of tokens."""

    inputs: Input
    truncate: bool | None = None
    truncation_direction: Literal["right", "left", "Right", "Left"] = "right"
    normalize: bool = True
    prompt_name: str | None = None
    dimensions: Dimensions = None


class EmbedAllRequest(Struct, frozen=True):
    """Texts whose tokens get a vector each."""

    inputs: Input
    truncate: bool | None = None
    truncation_direction: Literal["right", "left", "Right", "Left"] = "right"
    prompt_name: str | None = None


class PredictRequest(Struct, frozen=True):
    """A text; or a pair, as a list of two; or a list of lists of one or two texts. (For a model that chooses: a beginning
    and its options.)"""

    inputs: str | list[str | list[str]]
    raw_scores: bool = False
    truncate: bool | None = None
    truncation_direction: Literal["right", "left", "Right", "Left"] = "right"
    model: str = ""


class RerankRequest(Struct, frozen=True):
    """Texts to be put in order by how well they answer a query."""

    query: str
    texts: list[str]
    raw_scores: bool = False
    return_text: bool = False
    truncate: bool | None = None
    truncation_direction: Literal["right", "left", "Right", "Left"] = "right"
    model: str = ""


class Rank(Struct, frozen=True, omit_defaults=True):
    """One of the texts, by its place in the request."""

    index: int
    score: float
    text: str | msgspec.UnsetType = msgspec.UNSET


class Sentences(Struct, frozen=True):
    """One sentence, and those it is compared with."""

    source_sentence: str
    sentences: list[str]


class SimilarityParameters(Struct, frozen=True):
    """As those of /embed."""

    truncate: bool | None = None
    truncation_direction: Literal["right", "left", "Right", "Left"] = "right"
    prompt_name: str | None = None


class SimilarityRequest(Struct, frozen=True):
    """The cosines between one sentence and others."""

    inputs: Sentences
    parameters: SimilarityParameters | None = None


class TokenizeRequest(Struct, frozen=True):
    """Texts to be taken apart."""

    inputs: str | list[str]
    add_special_tokens: bool = True
    prompt_name: str | None = None


class Token(Struct, frozen=True):
    """A token, and where it stands in the text, in characters; a special one stands nowhere."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class DecodeRequest(Struct, frozen=True):
    """Ids of one text's tokens, or of several."""

    ids: list[TokenId | list[TokenId]]
    skip_special_tokens: bool = True


class Label(Struct, frozen=True):
    """A label and its probability; or, for a number that is predicted, that number."""

    score: float
    label: str


class Info(Struct, frozen=True):
    """The server and the model that answers if none is named. The other fields are those of text-embeddings-inference."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    served_model_name: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None = None
    docker_label: str | None = None


class EncodeRequest(Struct, frozen=True):
    """Texts as bert-as-service takes them: ` ||| ` stands between the texts of a pair. With `is_tokenized`, lists of words."""

    texts: list[str | list[str]]
    id: str | int | float | None = None
    is_tokenized: bool = False


class Encoded(Struct, frozen=True):
    """Vectors as the model's folder makes them. `truncated`: tokens that were cut from each text."""

    id: str | int | float | None
    result: Matrix
    truncated: list[int]
    status: int = 200


class FillRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A text with [MASK] in it, once or more; `k` candidates for each."""

    text: str
    k: Annotated[int, Meta(ge=1, le=100)] = 5
    model: str = ""


class Candidate(Struct, frozen=True):
    """A token and its probability."""

    token: str
    probability: float


class Filled(Struct, frozen=True):
    """For each mask, from left to right, the likeliest tokens."""

    masks: list[list[Candidate]]
    model: str
    truncated: int


class SearchRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What to look for in the index. `where` is a condition in SQL on its columns; `rerank` has a cross-encoder order what
    was found, if one is served."""

    query: str
    k: Annotated[int, Meta(ge=1, le=100)] = 10
    mode: Literal["hybrid", "vector", "text"] = "hybrid"
    where: str | None = None
    exact: bool = False
    rerank: bool = False


class Found(Struct, frozen=True):
    """A text of the index, with its other columns."""

    rank: int
    id: str
    text: str
    fields: dict[str, Any] = field(default_factory=dict)


class Hits(Struct, frozen=True):
    """What was found, best first. Ranks say all there is to say."""

    hits: list[Found]
