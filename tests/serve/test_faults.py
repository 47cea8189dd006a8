"""What goes wrong between a client and a server: floods, bad bodies, slow and vanished clients, keys, failing models."""

import json
import random
import socket
import string
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.serve.app import ROUTES

JSON = {"content-type": "application/json"}
SECRET = "XYZZY"
POSTS = {
    "/v1/embeddings": {"input": "a cat"},
    "/embed": {"inputs": "a cat"},
    "/embed_all": {"inputs": "a cat"},
    "/similarity": {"inputs": {"source_sentence": "a", "sentences": ["cat"]}},
    "/predict": {"inputs": "a cat"},
    "/rerank": {"query": "a", "texts": ["cat"]},
    "/tokenize": {"inputs": "a cat"},
    "/decode": {"ids": [5, 6]},
    "/encode": {"id": 1, "texts": ["a cat"]},
    "/fill": {"text": "a [MASK]"},
    "/search": {"query": "a cat"},
}


def is_error(answer: httpx.Response) -> bool:
    """In one of the two shapes, short, and without what was sent."""
    body = answer.json()
    detail = body["error"]
    shaped = set(body) == {"error", "error_type"} or set(detail) == {"message", "type", "param", "code"}
    return shaped and len(answer.content) < 600 and SECRET not in answer.text


def test_every_route_with_a_body_is_tried_here() -> None:
    assert set(POSTS) == {route.path for route in ROUTES if route.body is not None}


def test_a_full_queue_says_when_to_ask_again(run: Any) -> None:
    server = run(queue_requests=1)
    with server.house.batcher.admit(10):
        for path in ("/v1/embeddings", "/embed"):
            answer = server.post(path, POSTS[path])
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            assert is_error(answer)
        assert server.get("/health").status_code == 200  # it goes past the queue
    assert server.post("/embed", POSTS["/embed"]).status_code == 200


def test_a_flood_gets_answers_or_is_told_to_wait(run: Any) -> None:
    server = run(queue_requests=3)
    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(lambda _: server.post("/embed", {"inputs": ["a cat"] * 8}), range(120)))
    assert {one.status_code for one in found} == {200, 429}
    (expected,) = {one.text for one in found if one.status_code == 200}
    assert len(json.loads(expected)) == 8
    assert not server.house.batcher.places


BAD_BODIES = (
    b"", b"{", b"nul", b"[]", b'"x"', b'{"input": NaN}', b'{"input": Infinity}',
    b'{"input": "\\ud800' + SECRET.encode() + b'"}',
    b'{"input": "\xff"}', b'{"input": 1}', b'{"input": null}', b'{"input": true}', b'{"input": {}}', b'{"input": []}',
    b'{"input": ""}', b'{"input": [""]}', b'{"input": ["a", ""]}', b'{"input": [1, "a"]}', b'{"input": [[]]}',
    b'{"input": [-1]}', b'{"input": [1e400]}', b'{"input": [12345678901234567890123]}', b'{"input": [99999]}',
    b'{"input": [[1], [true]]}', b'{"input": ' + b"[" * 100_000, b'{"a":' * 50_000, b"\x00" * 50,
    b'{"input": "a", "encoding_format": "' + SECRET.encode() + b'"}', b'{"input": "a", "dimensions": 0}',
    b'{"input": "a", "dimensions": 1e9}', b'{"input": "a", "dimensions": "' + SECRET.encode() + b'"}',
    b'{"input": {"' + SECRET.encode() + b'": 1}}', b'{"input": ["a", {"' + SECRET.encode() + b'": 1}]}',
    b'\xef\xbb\xbf{"input": 1}', b'{"input": ' + json.dumps(["a"] * 2049).encode() + b"}",
)  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed"])
def test_bad_bodies(everything: Any, path: str) -> None:
    with httpx.Client(base_url=everything.url) as client:
        for body in BAD_BODIES:
            sent = body if path == "/v1/embeddings" else body.replace(b'"input"', b'"inputs"')
            if b"encoding_format" in sent and path == "/embed":
                continue
            answer = client.post(path, content=sent, headers=JSON)
            assert answer.status_code in (400, 422), (body[:60], answer.text)
            assert is_error(answer), (body[:60], answer.text)


def test_other_routes_refuse_what_they_cannot_use(everything: Any) -> None:
    for path, body in (
        ("/fill", {"text": SECRET}), ("/fill", {"text": "[MASK]", "k": 101}), ("/fill", {"text": "[MASK]", SECRET: 1}),
        ("/encode", {"texts": []}), ("/encode", {"texts": [["a"]]}), ("/encode", {"texts": ["a"], "is_tokenized": True}),
        ("/search", {"query": " "}), ("/search", {"query": "a", "where": f"{SECRET} >"}),
        ("/search", {"query": "a", "mode": SECRET}),
        ("/rerank", {"query": "", "texts": ["a"]}), ("/rerank", {"query": "a", "texts": []}), ("/decode", {"ids": [999]}),
        ("/tokenize", {"inputs": []}), ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}),
        ("/embed", {"inputs": "a", "prompt_name": SECRET}), ("/predict", {"inputs": []}),
        ("/predict", {"inputs": [["a"], "b"]}),
        ("/predict", {"inputs": [[]]}), ("/predict", {"inputs": ["a"] * 5}),
    ):  # fmt: skip
        answer = everything.post(path, body)
        assert answer.status_code in (400, 422), (path, body, answer.text)
        assert is_error(answer), answer.text


def test_a_body_that_is_too_large_is_not_read(run: Any) -> None:
    server = run(body_bytes=1000)
    head = b"POST /embed HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    started = time.monotonic()
    answer = server.raw(head + b"content-length: 200000000\r\n\r\n" + b"x" * 5000)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer
    chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
    assert server.raw(head + b"transfer-encoding: chunked\r\n\r\n" + chunk * 3).startswith(b"HTTP/1.1 413")
    assert time.monotonic() - started < 3
    assert server.post("/embed", {"inputs": "x" * 900}).status_code == 200


HOSTILE = (
    "\u202e\u2066cat\u2069", "a\u200bb\ufeff", "\x00\x01\x7f\ufffd", "e" + "\u0301" * 200_000, "x" * 500_000, "!" * 300_000,
    "a " * 300_000, "中" * 100_000, "\U0001f600" * 50_000, " ", "\t\n", "[CLS] [SEP] [MASK] [PAD]", "</script>",
)  # fmt: skip


def test_hostile_texts_have_vectors(everything: Any) -> None:
    for text in HOSTILE:
        answer = everything.post("/embed", {"inputs": text})
        assert answer.status_code == 200, (text[:10], answer.text)
        (vector,) = answer.json()
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@settings(max_examples=25)
@given(
    st.lists(
        st.text(alphabet=string.ascii_lowercase + " .é\u0301中\x00\u202e", min_size=1, max_size=40),
        min_size=1,
        max_size=9,
    )
)
def test_neighbours_do_not_matter(everything: Any, texts: list[str]) -> None:
    together = np.array(everything.post("/embed", {"inputs": texts}).json())
    alone = np.array(everything.post("/embed", {"inputs": texts[-1]}).json()[0])
    assert together[-1] @ alone >= 1 - 1e-6


def test_slow_clients_are_cut_and_others_do_not_wait(run: Any) -> None:
    server = run(receive=0.5)
    half = b"POST /embed HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 50\r\n"
    connections = []
    for number in range(60):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall((b"", b"POST /em", half, half + b"\r\n{")[number % 4])
        connections.append(connection)
    started = time.monotonic()
    assert server.post("/embed", POSTS["/embed"]).status_code == 200
    for number, connection in enumerate(connections):
        connection.settimeout(5)
        data = b""
        try:
            while part := connection.recv(4096):
                data += part
        except ConnectionError:
            pass
        assert data.startswith(b"HTTP/1.1 408") if number % 4 == 3 else not data
        connection.close()
    assert time.monotonic() - started < 4


def test_bytes_that_drip_do_not_buy_time(run: Any) -> None:
    server = run(receive=0.4)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        started = time.monotonic()
        with pytest.raises(ConnectionError):
            for _ in range(200):  # a second request on the same connection, a byte at a time
                connection.sendall(b"x")
                time.sleep(0.02)
        assert time.monotonic() - started < 3


def test_who_does_not_read_is_cut(run: Any, until: Any) -> None:
    server = run(receive=0.4)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = json.dumps({"inputs": "a " * 150_000}).encode()  # 12 MB of tokens come back, more than the kernel keeps
        head = b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        connection.sendall(head % len(body) + body)
        assert until(lambda: any(one.get("route") == "/tokenize" for one in server.logged))
        assert len(server.server.server_state.connections) == 1
        assert until(lambda: not server.server.server_state.connections, 5)


def test_headers_have_an_end(run: Any) -> None:
    server = run()
    assert server.raw(b"GET /live HTTP/1.1\r\nhost: localhost\r\n" + b"x: y\r\n" * 20_000 + b"\r\n") == b""
    assert server.get("/live").status_code == 200


def test_connections_are_counted(run: Any) -> None:
    server = run(connections=3)
    held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
    time.sleep(0.1)
    answer = server.raw(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n") and b"\r\nretry-after: 1\r\n" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "rate_limit_error"
    for one in held:
        one.close()


def test_a_client_that_left_is_not_worked_for(run: Any, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = run()
    service = server.house.models.models[0].vectors
    real, ran = service.run, []

    def slow(values: Any) -> Any:
        ran.append(len(values))
        time.sleep(0.3)
        return real(values)

    monkeypatch.setattr(service, "run", slow)
    body = json.dumps({"inputs": "a cat"}).encode()
    head = b"POST /embed HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    first = socket.create_connection(("127.0.0.1", server.port))
    first.sendall(head % len(body) + body)
    assert until(lambda: ran == [1])
    second = socket.create_connection(("127.0.0.1", server.port))
    second.sendall(head % len(body) + body)
    assert until(lambda: len(server.house.batcher.places) == 2)
    second.close()
    assert until(lambda: len(server.house.batcher.places) == 1)
    assert first.recv(4096).startswith(b"HTTP/1.1 200")
    first.close()
    assert ran == [1]
    assert "bertsmith_dropped_requests_total 1.0" in server.get("/metrics").text


def test_one_bad_text_fails_alone(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the model runs out of memory over it or gives numbers that are none."""
    server = run()
    embedder = server.house.models.models[0].vectors.embedder
    bad, mad = (embedder.tokenizer.vocabulary.tokens.index(word) for word in ("mill", "door"))
    real = embedder.pooled

    def pooled(encodings: Any) -> Any:
        if any(bad in one.ids for one in encodings):
            raise MemoryError
        found = real(encodings)
        found[[mad in one.ids for one in encodings]] = np.nan
        return found

    monkeypatch.setattr(embedder, "pooled", pooled)
    with ThreadPoolExecutor(9) as pool:
        texts = ["a cat", "the mill", "a dog", "green door", "paris", "the road"]
        found = list(pool.map(lambda text: server.post("/v1/embeddings", {"input": text}), texts))
    assert [one.status_code for one in found] == [200, 500, 200, 500, 200, 200]
    assert all(is_error(one) for one in found if one.status_code == 500)
    assert any("MemoryError" in str(one.get("reason")) for one in server.logged)
    assert server.post("/embed", {"inputs": ["a mill"]}).status_code == 424


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_health_is_the_model_s(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = run()
    assert server.get("/health").status_code == server.get("/ready").status_code == 200

    def dies(values: Any) -> Any:
        raise SystemExit

    service = server.house.models.models[0].vectors
    monkeypatch.setattr(service, "run", dies)
    assert server.post("/embed", POSTS["/embed"]).status_code == 503
    assert server.get("/health").status_code == server.get("/ready").status_code == 503
    assert server.get("/live").status_code == 200


def test_a_model_that_hangs_is_not_healthy(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = run()
    monkeypatch.setattr("bertsmith.serve.house.PATIENCE", 0.1)
    server.house._looked = -10.0
    service = server.house.models.models[0].vectors
    real = service.run
    monkeypatch.setattr(service, "run", lambda values: time.sleep(0.5) or real(values))
    assert server.get("/health").status_code == 503


KEY = "k3y-of-the-house"


def test_keys(run: Any) -> None:
    server = run(keys=(KEY, "another"))
    tricks: list[dict[str, str] | list[tuple[str, str]]] = [
        {}, {"authorization": "Bearer wrong"}, {"authorization": KEY}, {"authorization": f"Basic {KEY}"},
        {"authorization": "Bearer"}, {"authorization": f"Bearer {KEY}x"}, {"x-api-key": KEY},
        [("authorization", f"Bearer {KEY}"), ("authorization", "Bearer wrong")],
        [("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {KEY}")],
        {"host": "localhost/live?"}, {"x-forwarded-for": "127.0.0.1"},
    ]  # fmt: skip
    with httpx.Client(base_url=server.url) as client:
        for route in ROUTES:
            path = route.path.replace("{model}", "model")
            for headers in tricks:
                answer = client.request(route.method, path, headers=httpx.Headers(headers), json=POSTS.get(path))
                if route.open:
                    assert answer.status_code == 200
                else:
                    assert answer.status_code == 401, (path, headers, answer.text)
                    assert is_error(answer)
        for good in (f"Bearer {KEY}", f"bearer {KEY}", "Bearer another"):
            assert client.post("/embed", json=POSTS["/embed"], headers={"authorization": good}).status_code == 200
        for path in (
            "//embed",
            "/embed/",
            "/%65mbed/../embed",
            "/live/../embed",
            "/live%2f..%2fembed",
            "/EMBED",
            "/live;/embed",
        ):
            answer = client.post(path, json=POSTS["/embed"])
            assert answer.status_code in (401, 404, 405), path
    assert KEY not in str(server.logged) + repr(server.house.options)
    assert b"XYZ" not in server.raw(b"GET //evil@x/embed HTTP/1.1\r\nhost: XYZ\r\nconnection: close\r\n\r\n")


def test_without_a_key_a_web_page_cannot_reach_in(run: Any) -> None:
    """By a name of its own that points at this machine, or by a form."""
    server = run()
    assert server.post("/embed", POSTS["/embed"], headers={"host": "evil.example"}).status_code == 421
    assert server.get("/info", headers={"host": f"localhost:{server.port}"}).status_code == 200
    form = httpx.post(server.url + "/embed", content=b'{"inputs":"a"}', headers={"content-type": "text/plain"})
    assert form.status_code == 415


def test_media(everything: Any) -> None:
    post = everything.raw
    body = b'{"inputs":"a"}'
    head = b"POST /embed HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: %d\r\n" % len(body)
    kind = b"content-type: application/json\r\n"
    assert post(head + kind + b"\r\n" + body).startswith(b"HTTP/1.1 200")
    assert post(head + kind + b"range: bytes=0-1,2-3\r\n\r\n" + body).startswith(b"HTTP/1.1 200")
    assert post(head + kind + b"content-encoding: gzip\r\n\r\n" + body).startswith(b"HTTP/1.1 415")
    assert post(head + b"\r\n" + body).startswith(b"HTTP/1.1 415")
    assert post(head + kind + kind + b"\r\n" + body).startswith(b"HTTP/1.1 415")


SMUGGLED = (
    b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /info HTTP/1.1\r\nhost: x\r\n\r\n",
    b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    b"content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
    b"content-length: -1\r\n\r\n", b"content-length: 1e2\r\n\r\n", b"content-length: +3\r\n\r\nabc",
    b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n", b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    b" folded: x\r\n\r\n", b"a\x00b: c\r\n\r\n",
)  # fmt: skip


@pytest.mark.parametrize("rest", SMUGGLED)
def test_two_readings_of_a_request_are_refused(everything: Any, rest: bytes) -> None:
    head = b"POST /embed HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    answer = everything.raw(head + rest, 0.5)
    assert not answer or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413", b"HTTP/1.1 422")), answer
    assert answer.count(b"HTTP/1.1") <= 1


def test_random_paths_leave_no_trace(everything: Any) -> None:
    dice = random.Random(5)
    with httpx.Client(base_url=everything.url) as client:
        client.get("/nope")
        before = client.get("/metrics").text.count("\n")
        for _ in range(200):
            path = "/p" + "".join(dice.choices(string.ascii_letters + "/%0A%0D", k=20)).replace("%", "%25")
            assert client.get(path).status_code in (404, 405)
        assert client.get("/metrics").text.count("\n") <= before + 25  # the histogram of /metrics itself


def test_methods(everything: Any) -> None:
    answer = everything.get("/embed")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert is_error(answer)
    assert everything.post("/info", {}).status_code == 405
