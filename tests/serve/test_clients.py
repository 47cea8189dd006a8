"""The clients that people have work unchanged: OpenAI's, curl as the TEI documentation shows it, bert-as-service's."""

import base64
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

import bertsmith

TEXTS = ["the cat sat on the mat.", "a dog ran", "paris is the capital of france ?"]


@pytest.fixture
def client(everything: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=everything.url + "/v1", api_key="none", max_retries=0)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_openai_vectors_are_the_model_s(client: openai.OpenAI, folders: dict[str, Path], encoding: Any) -> None:
    more = {} if encoding is None else {"encoding_format": encoding}
    answer = client.embeddings.create(input=TEXTS, model="plain", **more)
    model = bertsmith.load(folders["plain"])
    expected = unit(model.embed(TEXTS))
    if encoding == "base64":
        found = np.stack([np.frombuffer(base64.b64decode(str(one.embedding)), "<f4") for one in answer.data])
    else:
        found = np.array([one.embedding for one in answer.data])
    assert found == pytest.approx(expected, abs=1e-6)
    assert [one.index for one in answer.data] == [0, 1, 2]
    assert answer.model == "plain"
    tokens = sum(len(model.tokenizer.encode(text, special_tokens=True)) for text in TEXTS)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == tokens


def test_openai_takes_a_text_or_ids(client: openai.OpenAI, folders: dict[str, Path]) -> None:
    tokenizer = bertsmith.load(folders["plain"]).tokenizer
    (by_text,) = client.embeddings.create(input=TEXTS[1], model="plain").data
    bare, wrapped = (tokenizer.encode(TEXTS[1], special_tokens=special).ids for special in (False, True))
    (by_ids,) = client.embeddings.create(input=bare, model="plain").data
    by_lists = client.embeddings.create(input=[bare, wrapped], model="plain").data
    for one in (by_ids, *by_lists):
        assert one.embedding == pytest.approx(by_text.embedding, abs=1e-6)


def test_openai_dimensions(client: openai.OpenAI) -> None:
    (whole,) = client.embeddings.create(input=TEXTS[0], model="plain").data
    (part,) = client.embeddings.create(input=TEXTS[0], model="plain", dimensions=5).data
    assert part.embedding == pytest.approx(unit(np.array(whole.embedding[:5])), abs=1e-6)
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(input=TEXTS[0], model="plain", dimensions=13)
    assert refused.value.param == "dimensions"


def test_openai_knows_the_models(client: openai.OpenAI) -> None:
    assert [one.id for one in client.models.list()] == ["plain", "pair", "classify"]
    assert client.models.retrieve("pair").owned_by == "bertsmith"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt")
    assert client.embeddings.create(input="the cat", model="text-embedding-3-small").model == "plain"


def test_a_model_is_chosen_by_its_name(client: openai.OpenAI, folders: dict[str, Path]) -> None:
    (found,) = client.embeddings.create(input=TEXTS[0], model="classify").data
    assert found.embedding == pytest.approx(unit(bertsmith.load(folders["classify"]).embed(TEXTS[0])), abs=1e-6)


def test_openai_is_told_what_was_cut(everything: Any) -> None:
    answer = everything.post("/v1/embeddings", {"input": ["the cat", "cat " * 40], "model": "plain"})
    assert [one["truncated"] for one in answer.json()["data"]] == [0, 26]
    assert (answer.headers["x-truncated-texts"], answer.headers["x-truncated-tokens"]) == ("1", "26")


TEI_EXAMPLES = {  # as in the README of text-embeddings-inference
    "embed": """/embed -X POST -d '{"inputs":"What is Deep Learning?"}' -H 'Content-Type: application/json'""",
    "batch": """/embed -X POST -d '{"inputs":["Today is a nice day", "I like you"]}' -H 'Content-Type: application/json'""",
    "openai": """/v1/embeddings -X POST -d '{"model":"text-embeddings-inference", "input":"What is Deep Learning?"}' """
    """-H 'Content-Type: application/json'""",
    "predict": """/predict -X POST -d '{"inputs":"I like you."}' -H 'Content-Type: application/json'""",
    "rerank": """/rerank -X POST -d '{"query": "What is Deep Learning?", "texts": ["Deep Learning is not...", """
    """"Deep learning is..."]}' -H 'Content-Type: application/json'""",
}


def curl(server: Any, example: str) -> Any:
    command = ["curl", "-sS", "--fail-with-body", *shlex.split(server.url + TEI_EXAMPLES[example])]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=30).stdout)


def test_tei_curl_embed(everything: Any, folders: dict[str, Path]) -> None:
    texts = ["What is Deep Learning?", "Today is a nice day", "I like you"]
    expected = unit(bertsmith.load(folders["plain"]).embed(texts))
    found = np.array([*curl(everything, "embed"), *curl(everything, "batch")])
    assert found == pytest.approx(expected, abs=1e-6)
    assert curl(everything, "openai")["data"][0]["embedding"] == pytest.approx(expected[0], abs=1e-6)


def test_tei_curl_predict(run: Any, folders: dict[str, Path]) -> None:
    loaded = bertsmith.load(folders["classify"])
    found = curl(run(loaded.checkpoint), "predict")
    (expected,) = loaded.predict(["I like you."])
    assert {one["label"]: pytest.approx(one["score"]) for one in found} == expected.probabilities
    assert found == sorted(found, key=lambda one: -one["score"])


def test_tei_curl_rerank(everything: Any, folders: dict[str, Path]) -> None:
    found = curl(everything, "rerank")
    texts = ["Deep Learning is not...", "Deep learning is..."]
    pairs = bertsmith.load(folders["pair"]).predict([("What is Deep Learning?", text) for text in texts])
    scores = [(p.probabilities or {})["yes"] for p in pairs]
    assert {one["index"]: pytest.approx(one["score"]) for one in found} == dict(enumerate(scores))
    assert found[0]["score"] >= found[1]["score"]


class BertClient:
    """What people wrote against bert-as-service's HTTP server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def encode(self, texts: list[Any], *, is_tokenized: bool = False) -> np.ndarray:
        body = {"id": 123, "texts": texts, "is_tokenized": is_tokenized}
        answer = httpx.post(self.url + "/encode", json=body, timeout=30).json()
        assert (answer["id"], answer["status"]) == (123, 200)
        return np.array(answer["result"], np.float32)


def test_bert_as_service(everything: Any, folders: dict[str, Path]) -> None:
    model, client = bertsmith.load(folders["plain"]), BertClient(everything.url)
    assert client.encode(TEXTS) == pytest.approx(model.embed(TEXTS), abs=1e-5)
    assert client.encode(["the cat ||| a dog"]) == pytest.approx(model.embed([("the cat", "a dog")]), abs=1e-5)
    assert client.encode([["the", "cat"]], is_tokenized=True) == pytest.approx(model.embed(["the cat"]), abs=1e-5)
