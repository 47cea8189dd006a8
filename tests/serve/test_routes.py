"""What each route answers, compared with the library."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertsmith
from bertsmith.embed import EmbedOptions, Windows
from bertsmith.nn import Averaged, ClsPooling


def ask(server: Any, path: str, **body: Any) -> Any:
    answer = server.post(path, body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_embed_as_asked(everything: Any, folders: dict[str, Path]) -> None:
    plain = bertsmith.load(folders["plain"])
    bare = ask(everything, "/embed", inputs=["the cat", "a dog"], normalize=False)
    assert np.array(bare) == pytest.approx(plain.embed(["the cat", "a dog"]), abs=1e-5)
    (short,) = ask(everything, "/embed", inputs="the cat", dimensions=4)
    assert short == pytest.approx(bare[0][:4] / np.linalg.norm(bare[0][:4]), abs=1e-5)
    (prompted,) = ask(everything, "/embed", inputs="cat", prompt_name="query", normalize=False)
    assert prompted == pytest.approx(plain.embed("the old cat"), abs=1e-5)


def test_token_vectors(everything: Any, folders: dict[str, Path]) -> None:
    plain = bertsmith.load(folders["plain"])
    found = ask(everything, "/embed_all", inputs=["the cat", "a"])
    assert [len(one) for one in found] == [4, 3]
    (expected, _) = plain.token_vectors(["the cat", "a"])
    assert np.array(found[0][1:-1]) == pytest.approx(expected.vectors, abs=1e-5)


def test_similarity(everything: Any, folders: dict[str, Path]) -> None:
    texts = ["the cat", "a dog", "the cat"]
    vectors = bertsmith.load(folders["plain"]).embed(texts)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = ask(everything, "/similarity", inputs={"source_sentence": texts[0], "sentences": texts[1:]})
    assert found == pytest.approx((vectors[1:] @ vectors[0]).tolist(), abs=1e-5)


def test_tokenize_and_decode(everything: Any) -> None:
    (tokens,) = ask(everything, "/tokenize", inputs="The cats")
    assert [(t["text"], t["special"], t["start"], t["stop"]) for t in tokens] == [
        ("[CLS]", True, None, None), ("the", False, 0, 3), ("cat", False, 4, 7),
        ("##s", False, 7, 8), ("[SEP]", True, None, None),
    ]  # fmt: skip
    ids = [t["id"] for t in tokens]
    assert ask(everything, "/decode", ids=ids) == ["the cats"]
    assert ask(everything, "/decode", ids=[ids, ids[1:3]], skip_special_tokens=False) == [
        "[CLS] the cats [SEP]",
        "the cat",
    ]


def test_predict_takes_a_text_a_pair_or_a_batch(run: Any, folders: dict[str, Path]) -> None:
    for kind, one, other in (("classify", "the cat", "a dog"), ("pair", ["the cat", "a"], ["a dog", "is"])):
        model = bertsmith.load(folders[kind])
        server = run(model.checkpoint)
        examples = [tuple(x) if isinstance(x, list) else x for x in (one, other)]
        expected = [p.probabilities for p in model.predict(examples)]
        single = ask(server, "/predict", inputs=one)
        batch = ask(server, "/predict", inputs=[x if isinstance(x, list) else [x] for x in (one, other)])
        assert {x["label"]: pytest.approx(x["score"], abs=1e-6) for x in single} == expected[0]
        assert [{x["label"]: pytest.approx(x["score"], abs=1e-6) for x in row} for row in batch] == expected
        raw = {x["label"]: x["score"] for x in ask(server, "/predict", inputs=one, raw_scores=True)}
        logits = np.array([raw[label] for label in expected[0]])
        assert np.exp(logits) / np.exp(logits).sum() == pytest.approx(list(expected[0].values()), abs=1e-5)
    wrong = server.post("/predict", {"inputs": "the cat"})  # to the one of pairs
    assert (wrong.status_code, wrong.json()["error_type"]) == (422, "Validation")


def test_the_model_that_fits_predicts(everything: Any) -> None:
    def labels(**body: Any) -> set[str]:
        return {x["label"] for x in ask(everything, "/predict", **body)}

    assert labels(inputs=["a", "b"]) == {"no", "yes"}
    assert labels(inputs="a") == {"bad", "good", "odd"}
    assert labels(inputs=["a", "b"], model="classify") == {"bad", "good", "odd"}
    assert everything.post("/predict", {"inputs": "a", "model": "pair"}).status_code == 422


@pytest.mark.parametrize(
    ("kind", "given"), [("tag", "the cat sat"), ("span", ("the ?", "a cat sat")), ("regress", "a cat")]
)
def test_other_tasks_answer_as_predict_does(run: Any, folders: dict[str, Path], kind: str, given: Any) -> None:
    model = bertsmith.load(folders[kind])
    (expected,) = model.predict([given])
    found = ask(run(model.checkpoint), "/predict", inputs=list(given) if isinstance(given, tuple) else given)
    if kind == "regress":
        assert found == [{"label": "score", "score": pytest.approx(expected.score, abs=1e-5)}]
    else:
        assert found.keys() == expected.as_dict().keys()
        key = {"tag": "words", "span": "answer"}[kind]
        shown = expected.as_dict()[key]
        assert str(found[key])[:30] == str(list(shown) if isinstance(shown, tuple) else shown)[:30]


def test_long_texts_are_read_in_windows(run: Any, folders: dict[str, Path]) -> None:
    model = bertsmith.load(folders["classify"])
    text = "the cat sat on a road " * 9
    (expected,) = model.predict([text])
    assert expected.windows > 1
    found = ask(run(model.checkpoint), "/predict", inputs=text, truncate=False)
    assert {x["label"]: pytest.approx(x["score"], abs=1e-6) for x in found} == expected.probabilities


def test_rerank(everything: Any) -> None:
    texts = ["a dog", "the old mill", "paris is the capital"]
    found = ask(everything, "/rerank", query="paris ?", texts=texts, return_text=True)
    assert sorted(x["index"] for x in found) == [0, 1, 2]
    assert all(x["text"] == texts[x["index"]] for x in found)
    raw = ask(everything, "/rerank", query="paris ?", texts=texts, raw_scores=True)
    assert [x["index"] for x in raw] == [x["index"] for x in found]
    for one, logit in zip(found, raw, strict=True):
        assert 1 / (1 + np.exp(-logit["score"])) == pytest.approx(one["score"], abs=1e-6)
        assert "text" not in logit


def test_fill(everything: Any, folders: dict[str, Path]) -> None:
    text = "paris is the [MASK] of [MASK] ."
    found = ask(everything, "/fill", text=text, k=3)
    expected = bertsmith.load(folders["plain"]).fill_all(text, k=3)
    assert [[c["token"] for c in mask] for mask in found["masks"]] == [[c.token for c in mask] for mask in expected]
    assert found["masks"][1][0]["probability"] == pytest.approx(expected[1][0].probability, abs=1e-6)


@pytest.mark.parametrize("mode", ["hybrid", "vector", "text"])
def test_search(everything: Any, index: Path, mode: Any) -> None:
    found = ask(everything, "/search", query="a cat", k=3, mode=mode)["hits"]
    expected = bertsmith.open_index(index).search("a cat", k=3, mode=mode)
    assert [(x["rank"], x["id"], x["text"], x["fields"]) for x in found] == [
        (hit.rank, hit.id, hit.text, dict(hit.fields)) for hit in expected
    ]


def test_search_in_an_index_with_options(run: Any, folders: dict[str, Path], tmp_path: Path) -> None:
    """Queries are made as the index's texts were, long ones too; other vectors of the same model are as its folder says."""
    plain = bertsmith.load(folders["plain"])
    options = EmbedOptions(pooling=ClsPooling(), layers=Averaged((-2, -1)), dimensions=5, long=Windows())
    texts = ["the old mill " * 9 + "river " * 9, "the old mill " * 9, "green door", "paris is the capital"]
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    bertsmith.index_files(plain, [tmp_path / "texts.txt"], tmp_path / "index", options=options)
    finder = bertsmith.open_index(tmp_path / "index")
    server = run(plain.checkpoint, finder=finder)
    assert len(server.house.models.models) == 1
    for text in texts:
        hits = ask(server, "/search", query=text, mode="vector")["hits"]
        assert hits[0]["text"] == text
        assert [hit["id"] for hit in hits] == [hit.id for hit in finder.search(text, mode="vector")]
    assert len(ask(server, "/embed", inputs="green door")[0]) == 12


def test_search_with_a_condition_and_a_reranker(everything: Any) -> None:
    found = ask(everything, "/search", query="cat", where="year > 1993")["hits"]
    assert {x["id"] for x in found} == {"4", "5"}
    ranked = ask(everything, "/search", query="cat", rerank=True)["hits"]
    by_hand = ask(everything, "/rerank", query="cat", texts=[x["text"] for x in ranked])
    assert [x["index"] for x in by_hand] == list(range(len(ranked)))
    refused = everything.post("/search", {"query": "cat", "where": "yeer > 1"})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "where"
    assert "year (int64)" in refused.text
    assert "yeer" not in refused.text


def test_what_no_model_can_do(run: Any) -> None:
    server = run()
    for path, body in (
        ("/predict", {"inputs": "a"}),
        ("/rerank", {"query": "a", "texts": ["a"]}),
        ("/search", {"query": "a"}),
    ):
        assert server.post(path, body).status_code == 424
    assert server.get("/info").json()["model_type"] == {"embedding": {"pooling": "mean"}}


def test_info(everything: Any, run: Any, folders: dict[str, Path]) -> None:
    info = everything.get("/info").json()
    assert (info["model_id"], info["max_input_length"], info["max_client_batch_size"]) == ("plain", 16, 2048)
    server = run(bertsmith.load(folders["classify"]).checkpoint)
    labels = server.get("/info").json()["model_type"]["classifier"]
    assert labels["id2label"] == {"0": "bad", "1": "good", "2": "odd"}
    assert labels["label2id"]["odd"] == 2


def test_tei_refuses_to_cut_if_told_so(everything: Any) -> None:
    long = "cat " * 40
    assert everything.post("/embed", {"inputs": long}).headers["x-truncated-tokens"] == "26"
    for more in ({"truncate": False}, {"truncation_direction": "left"}):
        refused = everything.post("/embed", {"inputs": long} | more)
        assert (refused.status_code, refused.json()["error_type"]) == (422, "Validation")
        assert everything.post("/embed", {"inputs": "cat"} | more).status_code == 200


def test_metrics_and_logs(everything: Any) -> None:
    secret = "the mill and the river ran"
    answer = everything.post("/embed", {"inputs": [secret, "cat " * 30]})
    assert int(answer.headers["x-compute-tokens"]) == 8 + 16
    text = everything.get("/metrics").text
    assert 'te_request_count{route="/embed",status="200"}' in text
    assert "te_queue_size 0.0" in text
    assert 'bertsmith_truncated_texts_total{route="/embed"}' in text
    line = [one for one in everything.logged if one.get("route") == "/embed"][-1]
    assert (line["status"], line["texts"], line["tokens"], line["truncated"]) == (200, 2, 24, 1)
    assert secret not in str(everything.logged)
