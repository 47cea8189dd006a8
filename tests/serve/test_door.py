"""Refusing while the queue is full: as the slow way would, but before there is a task or a body."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

KEY = "k3y-of-the-house"
SECRET = "swordfish"
BODY = json.dumps({"inputs": SECRET}).encode()


def head(*more: bytes, path: bytes = b"/embed", size: int = len(BODY)) -> bytes:
    lines = (
        b"POST %s HTTP/1.1" % path,
        b"host: localhost",
        b"content-type: application/json",
        b"content-length: %d" % size,
    )
    return b"\r\n".join((*lines, *more, b"", b""))


@contextmanager
def full(server: Any) -> Iterator[None]:
    """Its queue has room for one, who is in."""
    with server.house.batcher.admit(10):
        yield
    server.house.batcher._refused = float("-inf")


def split(answer: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Status, headers, body."""
    top, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = top.split(b"\r\n")
    return status, dict(line.split(b": ", 1) for line in lines), body


@pytest.mark.parametrize("path", [b"/embed", b"/v1/embeddings", b"/fill", b"/tokenize"])
def test_the_answer_is_that_of_the_slow_way(run: Any, path: bytes) -> None:
    server = run(queue_requests=1)
    with full(server):
        quick = split(server.raw(head(path=path) + BODY, 0.3))
        assert not any(one.get("status") == 429 for one in server.logged)  # so it was the door
        slow = split(server.raw(head(b"connection: close", path=path) + BODY))
    assert any(one.get("status") == 429 for one in server.logged)
    assert slow[1].pop(b"connection") == b"close"
    assert quick[0] == slow[0] == b"HTTP/1.1 429 Too Many Requests"
    assert quick[2] == slow[2]
    quick[1].pop(b"date"), slow[1].pop(b"date")
    assert quick[1] == slow[1]
    assert int(quick[1][b"retry-after"]) >= 1


def test_the_connection_is_kept_and_bodies_in_pieces_are_thrown_away(run: Any) -> None:
    server = run(queue_requests=1)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(5)
        with full(server):
            for _ in range(3):
                connection.sendall(head(size=300_000))
                assert connection.recv(4096).startswith(b"HTTP/1.1 429")  # before there is a body
                connection.sendall(b"x" * 200_000)
                time.sleep(0.02)
                connection.sendall(b"y" * 100_000)
            connection.sendall((head() + BODY) * 3)
            got = b""
            while got.count(b"HTTP/1.1 429") < 3:
                got += connection.recv(4096)
        time.sleep(0.2)  # until its turn
        connection.sendall(head() + BODY)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_what_else_is_wrong_is_said_first(run: Any) -> None:
    server = run(queue_requests=1, keys=(KEY,), body_bytes=1000)
    key = b"authorization: Bearer " + KEY.encode()
    with full(server):
        for request, status in (
            (head(), b"401"),
            (head(b"authorization: Bearer wrong"), b"401"),
            (head(key, key), b"401"),
            (head(key, b"content-encoding: gzip"), b"415"),
            (head(key, size=1001), b"413"),
            (head(key, path=b"/nowhere"), b"404"),
            (head(key), b"429"),
            (head(key, b"expect: 100-continue"), b"100"),
        ):
            assert server.raw(request + BODY, 0.3).startswith(b"HTTP/1.1 " + status), request
        assert server.get("/live").status_code == server.get("/ready").status_code == 200
        server.house.batcher.draining = True
        assert server.raw(head(key) + BODY, 0.3).startswith(b"HTTP/1.1 503")
    open_to_pages = run(queue_requests=1)
    with full(open_to_pages):
        request = head().replace(b"localhost", b"evil.example")
        assert open_to_pages.raw(request + BODY, 0.3).startswith(b"HTTP/1.1 421")


def test_who_asks_again_at_once_waits_for_the_turn(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused then, though there is room by now; who asks after the turn is answered."""
    monkeypatch.setattr("bertsmith.serve.door.TURN", 0.3)
    server = run(queue_requests=1)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(5)
        with full(server):
            connection.sendall(head() + BODY)
            assert connection.recv(4096).startswith(b"HTTP/1.1 429")
            refused = time.monotonic()
        connection.sendall(head() + BODY)
        assert server.get("/live").status_code == 200  # others are read
        assert server.raw(head() + BODY, 0.2).startswith(b"HTTP/1.1 200")
        assert connection.recv(4096).startswith(b"HTTP/1.1 429")
        assert 0.2 < time.monotonic() - refused < 2
        connection.sendall(head() + BODY)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_so_many_are_read_at_a_turn_while_there_is_a_flood(
    run: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertsmith.serve.door.TURNS", 2)
    monkeypatch.setattr("bertsmith.serve.door.TURN", 0.2)
    server = run(queue_requests=1, calm=30)
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(7)]
    try:
        with full(server):
            for connection in connections:
                connection.settimeout(5)
                connection.sendall(head() + BODY)
                assert connection.recv(4096).startswith(b"HTTP/1.1 429")
            started = time.monotonic()
            for connection in connections:
                connection.sendall(head() + BODY)
            for connection in connections:
                assert connection.recv(4096).startswith(b"HTTP/1.1 429")
            assert 0.5 < time.monotonic() - started < 3  # four turns
            connections.pop().close()
    finally:
        for connection in connections:
            connection.close()
    assert until(lambda: not server.server.server_state.connections)


def test_a_body_that_does_not_come_ends_the_connection(run: Any) -> None:
    server = run(queue_requests=1, receive=0.3)
    with full(server), socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(5)
        connection.sendall(head(size=1000) + b"x")
        assert connection.recv(4096).startswith(b"HTTP/1.1 429")
        started = time.monotonic()
        with pytest.raises(ConnectionError):
            while True:
                connection.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - started < 2


def test_answers_that_nobody_takes_are_not_heaped_up(run: Any) -> None:
    server = run(queue_requests=1, receive=0.5)
    with full(server), socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(2)
        sent = 0
        with pytest.raises((TimeoutError, ConnectionError)):
            while sent < 200_000_000:
                sent += connection.send((head() + BODY) * 500)
        assert sent < 50_000_000


def test_refusals_are_counted_and_said_once_a_second(run: Any, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertsmith.serve.door.PERIOD", 0.2)
    server = run(queue_requests=1)
    with full(server):
        for _ in range(7):
            server.raw(head() + BODY, 0.02)
    assert until(lambda: sum(one.get("requests", 0) for one in server.logged) == 7)
    lines = [one for one in server.logged if one["event"] == "refused"]
    assert 1 <= len(lines) < 7
    assert all(one.keys() == {"event", "route", "status", "requests"} for one in lines)
    assert SECRET not in str(server.logged)
    found = server.get("/metrics").text
    assert 'te_request_count{route="/embed",status="429"} 7.0' in found
    assert 'te_request_duration_count{route="/embed"} 7.0' in found
