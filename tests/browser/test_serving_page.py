"""The page at / of a real server in a real browser that reaches nothing but this machine."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")
pytest.importorskip("lancedb", reason="the extra [search] is not installed")

import bertsmith
from bertsmith.retrieval import Source, index_files
from bertsmith.serve import House, Limits, ServeOptions, Server
from bertsmith.serve.logs import silent_log
from bertsmith.shipped import DEFAULT, shipped_models

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(DEFAULT not in shipped_models(), reason="the shipped model is not in this installation"),
]

ATTACK = "<img src=x onerror=alert(1)> mill"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Starts servers of the shipped model and of an index of four texts, with keys or without; gives their address."""
    root = tmp_path_factory.mktemp("served")
    texts = ["The old mill stood by the river.", "Ships left the harbour.", "She read a book of stars.", ATTACK]
    rows = "".join(f'{number},{1890 + number},"{text}"\n' for number, text in enumerate(texts))
    (root / "texts.csv").write_text("id,year,text\n" + rows, encoding="utf-8")
    model = bertsmith.load(DEFAULT)
    index_files(model, [root / "texts.csv"], root / "texts.index", Source())
    begun: list[tuple[Server, threading.Thread]] = []

    def start(*keys: str) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        finder = bertsmith.open_index(root / "texts.index", model)
        server = Server(House([model], finder, ServeOptions(keys=keys, limits=Limits(grace=5.0)), log=silent_log))
        begun.append((server, threading.Thread(target=server.run, args=([listener],), daemon=True)))
        begun[-1][1].start()
        while not server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield start
    for server, thread in begun:
        server.leave()
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """Opens an address on a screen of a size and a theme; waits for what an expression says."""

    def open_page(url: str, size: tuple[int, int] = (1280, 900), theme: str = "light") -> Any:
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        width, height = size
        browser.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        browser.call("Page.navigate", url=url)
        wait(browser, "document.readyState === 'complete'")
        browser.events.clear()
        return browser

    yield open_page
    browser.call("Emulation.clearDeviceMetricsOverride")
    browser.call("Emulation.setEmulatedMedia", features=[])
    browser.call("Page.navigate", url="about:blank")  # or the server waits for its connections


def wait(browser: Any, condition: str) -> None:
    for _ in range(500):
        if browser.evaluate(condition):
            return
        time.sleep(0.02)
    raise AssertionError(condition + ": " + str(browser.complaints()))


def shown(browser: Any, section: str) -> str:
    return browser.evaluate(f"document.querySelector('#{section} .result').innerText")


def press(browser: Any, key: str, modifiers: int = 0) -> None:
    text = {"Enter": "\r"}.get(key, "")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text, modifiers=modifiers,
                     windowsVirtualKeyCode={"Enter": 13, "Tab": 9}[key])  # fmt: skip


def test_the_page_does_what_it_says(house: Any, visit: Any) -> None:
    browser = visit(house())
    wait(browser, "!document.querySelector('#search').hidden")
    assert browser.evaluate("document.querySelector('#key').checkVisibility()") is False
    assert browser.evaluate("document.querySelector('h1').textContent") == DEFAULT
    browser.evaluate("document.querySelector('#compare form button').click()")
    wait(browser, "document.querySelectorAll('#compare td').length === 26")
    cells = browser.evaluate(
        "[...document.querySelectorAll('#compare tbody tr')].map((r) => [...r.cells].slice(1).map((c) => c.textContent))"
    )
    vectors = bertsmith.load(DEFAULT).embed(browser.evaluate("document.querySelector('#sentences').value").split("\n"))
    cosines = (vectors @ vectors.T) / ((vectors**2).sum(1)[:, None] * (vectors**2).sum(1)) ** 0.5
    assert float(cells[0][3]) == pytest.approx(cosines[0, 3], abs=0.006)
    assert "Most alike" in shown(browser, "compare")
    browser.evaluate("document.querySelector('#fill form button').click()")
    wait(browser, "document.querySelectorAll('#fill ol.bars').length === 2")
    best = bertsmith.load(DEFAULT).fill_all("He opened the [MASK] and looked out at the [MASK].")[0][0].token
    assert best in shown(browser, "fill")
    assert browser.complaints() == []
    assert all(url.startswith("http://127.0.0.1") for url in browser.requests())


def test_by_keyboard_alone(house: Any, visit: Any) -> None:
    browser = visit(house())
    wait(browser, "!document.querySelector('#search').hidden")
    browser.evaluate("document.querySelector('#sentences').focus()")
    press(browser, "Enter", modifiers=2)
    wait(browser, "document.querySelector('#compare table') !== null")
    order = []
    for _ in range(6):
        press(browser, "Tab")
        order.append(
            browser.evaluate(
                "document.activeElement.id || document.activeElement.className || document.activeElement.textContent"
            )
        )
    assert order == ["Compare", "scroll", "masked", "Fill", "insert", "query"]
    outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    browser.call("Input.insertText", text="an old mill")
    press(browser, "Enter")
    wait(browser, "document.querySelectorAll('#search li').length === 4")
    assert "The old mill stood by the river." in shown(browser, "search")


def test_texts_are_only_texts(house: Any, visit: Any) -> None:
    browser = visit(house())
    wait(browser, "!document.querySelector('#search').hidden")
    browser.evaluate("document.querySelector('#query').value = 'img mill'")
    browser.evaluate("document.querySelector('#search form button').click()")
    wait(browser, "document.querySelectorAll('#search li').length === 4")
    assert ATTACK in shown(browser, "search")
    browser.evaluate(f"document.querySelector('#masked').value = '{ATTACK} [MASK]'")
    browser.evaluate("document.querySelector('#fill form button').click()")
    wait(browser, "document.querySelectorAll('#fill li').length === 5")
    assert browser.evaluate("document.querySelectorAll('img').length") == 0
    assert browser.complaints() == []


def test_what_goes_wrong_is_said(house: Any, visit: Any) -> None:
    browser = visit(house())
    browser.evaluate("document.querySelector('#sentences').value = 'one alone'")
    browser.evaluate("document.querySelector('#compare form button').click()")
    wait(browser, "document.querySelector('#compare .status').textContent.startsWith('Write two')")
    browser.evaluate("document.querySelector('#masked').value = 'no mask'")
    browser.evaluate("document.querySelector('#fill form button').click()")
    wait(browser, "document.querySelector('#fill .status').textContent.includes('no [MASK]')")
    long = "the mill " * 400
    browser.evaluate(f"document.querySelector('#sentences').value = '{long}\\nshort'")
    browser.evaluate("document.querySelector('#compare form button').click()")
    wait(browser, "document.querySelector('#compare .status').textContent.includes('a text was cut')")


def test_a_key_is_asked_for(house: Any, visit: Any) -> None:
    browser = visit(house("sesame"))
    wait(browser, "document.querySelector('#key').checkVisibility()")
    for key, hidden in (("wrong", "false"), ("sesame", "true")):
        browser.evaluate(f"document.querySelector('#secret').value = '{key}'")
        browser.evaluate("document.querySelector('#key button').click()")
        wait(browser, f"document.querySelector('#key').hidden === {hidden}")
    wait(browser, "!document.querySelector('#fill').hidden")


@pytest.mark.parametrize("size", [(390, 844), (1280, 900)])
def test_both_pages_fit_their_window(house: Any, visit: Any, size: tuple[int, int], tmp_path: Path) -> None:
    url = house()
    browser = visit(url, size)
    browser.evaluate("document.querySelector('#compare form button').click()")
    wait(browser, "document.querySelector('#compare table') !== null")
    assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
    browser = visit(url + "docs", size)
    browser.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert browser.complaints() == []


def test_the_page_turns_dark(house: Any, visit: Any) -> None:
    url = house()
    ground = "getComputedStyle(document.body).backgroundColor"
    assert [visit(url, theme=theme).evaluate(ground) for theme in ("light", "dark")] == [
        "rgb(255, 255, 255)",
        "rgb(20, 24, 28)",
    ]
