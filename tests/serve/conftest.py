"""Real servers in a thread, with small untrained models that can do everything between them."""

import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")

import bertsmith
from bertsmith import LoadedModel, nn
from bertsmith.checkpoints import Checkpoint, save_model
from bertsmith.recipes import bert
from bertsmith.retrieval import Finder, Source, index_files
from bertsmith.serve import House, Limits, ServeOptions, Server
from bertsmith.text import SPECIAL_TOKENS, Tokenizer, Vocabulary

TEXT = "the a cat dog sat ran on mat road paris is capital of france old mill river green door and , . ?"
HEADS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "classify": ({"labels": ["bad", "good", "odd"]}, "sequence_label", {"num_labels": 3}),
    "pair": ({"labels": ["no", "yes"]}, "sequence_label", {"num_labels": 2}),
    "tag": ({"labels": ["O", "B-x", "I-x"]}, "token_label", {"num_labels": 3}),
    "span": ({}, "answer_span", {}),
    "regress": ({}, "sequence_score", {"num_labels": 1}),
}
MAX_LENGTH = 16
NOT_KEPT = httpx.Limits(max_keepalive_connections=0)


def make_model(kind: str | None = None, *, seed: int = 3, prompts: dict[str, str] | None = None) -> Checkpoint:
    """2 layers of 12 that read 16 tokens, each a word or a letter; it fills masks, or does the task of that kind."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    vocabulary = Vocabulary((*SPECIAL_TOKENS, *dict.fromkeys((*TEXT.split(), *letters)), *(f"##{x}" for x in letters)))
    encoder = replace(bert.encoder(12, 2, 2), vocab_size=len(vocabulary), initializer_range=0.2)
    task = None
    if kind is None:
        config = nn.Model.Config(encoder=encoder, heads={"masked_lm": nn.MaskedLMHead.Config()})
    else:
        more, head, sizes = HEADS[kind]
        part = {"token_label": nn.TokenHead, "answer_span": nn.SpanHead}.get(head, nn.SequenceHead)
        config = nn.Model.Config(encoder=encoder, heads={head: part.Config(**sizes)})
        task = {"kind": kind, **more}
    return Checkpoint(
        model=config.initialized(seed).eval(),
        tokenizer=Tokenizer(vocabulary, max_length=MAX_LENGTH),
        task=task,
        sentence={"prompts": prompts or {}},
    )


@dataclass
class Running:
    """A server that runs, a client for it, and what it logged."""

    house: House
    server: Server
    port: int
    logged: list[dict[str, Any]]
    client: httpx.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        return self.client.post(path, json=body, **more)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.client.get(path, **more)

    def raw(self, data: bytes, seconds: float = 5) -> bytes:
        """Bytes sent as they are, and all that came back until the server closed, or nothing came for so long."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.settimeout(seconds)
            answer = b""
            try:
                connection.sendall(data)
                while part := connection.recv(1 << 16):
                    answer += part
            except (TimeoutError, ConnectionError):
                pass
            return answer


Run = Callable[..., Any]


@contextmanager
def running(house: House, logged: list[dict[str, Any]]) -> Iterator[Running]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    server = Server(house)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    assert wait_until(lambda: server.started), logged
    try:
        port = listener.getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=False, limits=NOT_KEPT) as client:
            yield Running(house, server, port, logged, client)
    finally:
        server.leave()
        thread.join(20)
        listener.close()
        assert not thread.is_alive(), what_it_does(server, thread)


def what_it_does(server: Server, thread: threading.Thread) -> str:
    """The connections and tasks that a server has left, and where its thread is: for a test in which it should have ended."""
    state, frame = server.server_state, sys._current_frames().get(thread.ident or 0)
    tasks = [str(task.get_stack()) for task in state.tasks]
    return "\n".join([str([vars(one) for one in state.connections]), *tasks, *traceback.format_stack(frame)])


@pytest.fixture
def run() -> Iterator[Run]:
    """`run(*checkpoints, finder=..., keys=..., **limits)` starts a server; it ends with the test."""
    with ExitStack() as stack:

        def start(
            *checkpoints: Checkpoint, finder: Finder | None = None, keys: tuple[str, ...] = (), **limits: Any
        ) -> Running:
            logged: list[dict[str, Any]] = []
            options = ServeOptions(keys=keys, limits=Limits(**{"drain": 0.0, "grace": 5.0} | limits))
            models = [LoadedModel(one) for one in checkpoints or (make_model(),)]
            house = House(models, finder, options, log=lambda event, **fields: logged.append({"event": event} | fields))
            return stack.enter_context(running(house, logged))

        yield start


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model folders: `plain`, and one for each task."""
    root = tmp_path_factory.mktemp("models")
    for kind in (None, *HEADS):
        prompts = {"query": "the old "} if kind is None else None
        save_model(root / (kind or "plain"), make_model(kind, prompts=prompts))
    return {kind or "plain": root / (kind or "plain") for kind in (None, *HEADS)}


@pytest.fixture(scope="session")
def index(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six sentences with numbers, indexed by the plain model."""
    pytest.importorskip("lancedb", reason="the extra [search] is not installed")
    root = tmp_path_factory.mktemp("index")
    texts = [
        "the cat sat",
        "a dog ran on the road",
        "paris is the capital",
        "the old mill",
        "green door",
        "a cat and a dog",
    ]
    rows = "".join(f"{number},{text},{1990 + number}\n" for number, text in enumerate(texts))
    (root / "texts.csv").write_text("id,text,year\n" + rows, encoding="utf-8")
    model = bertsmith.load(folders["plain"])
    index_files(model, [root / "texts.csv"], root / "texts.index", Source())
    return root / "texts.index"


@pytest.fixture(scope="session")
def everything(folders: dict[str, Path], index: Path) -> Iterator[Running]:
    """One server of a plain model, a classifier, a cross-encoder and an index."""
    logged: list[dict[str, Any]] = []
    models = [bertsmith.load(folders[name]) for name in ("plain", "pair", "classify")]
    finder = bertsmith.open_index(index)
    options = ServeOptions(limits=Limits(grace=5.0))
    house = House(models, finder, options, log=lambda event, **fields: logged.append({"event": event} | fields))
    with running(house, logged) as server:
        yield server


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether it came true in time."""
    for _ in range(int(seconds * 200)):
        if condition():
            return True
        threading.Event().wait(0.005)
    return False


@pytest.fixture
def until() -> Callable[..., bool]:
    return wait_until


@pytest.fixture
def model() -> Callable[..., Checkpoint]:
    return make_model
