"""Prefetching: a thread prepares the next items while the caller works on this one."""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


def prefetched(
    iterator: Iterator[T], depth: int = 2, *, stop: Callable[[], bool] = lambda: False
) -> Generator[T, None, None]:
    """The same items in the same order, prepared up to `depth` ahead. Errors of `iterator` are raised here, in turn.

    While it waits for an item it asks `stop` now and then, and ends if that says so.
    """
    items: queue.Queue[_Item[T] | _End] = queue.Queue(maxsize=depth)
    ended = threading.Event()
    thread = threading.Thread(target=_fill, args=(iterator, items, ended), name="bertsmith-prefetch", daemon=True)
    thread.start()
    try:
        while not stop():
            try:
                item = items.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item.value
    finally:
        ended.set()
        with suppress(queue.Empty):
            while True:
                items.get_nowait()  # it may be waiting for a free place
        # A thread in the middle of one long item is left behind: it holds nothing and ends with that item.
        thread.join(timeout=1.0)


@dataclass(frozen=True)
class _Item(Generic[T]):
    value: T


@dataclass(frozen=True)
class _End:
    error: BaseException | None


def _fill(iterator: Iterator[T], items: "queue.Queue[_Item[T] | _End]", ended: threading.Event) -> None:
    end = _End(None)
    try:
        for value in iterator:
            if not _put(items, _Item(value), ended):
                return
    except BaseException as error:
        end = _End(error)
    _put(items, end, ended)


def _put(items: "queue.Queue[_Item[T] | _End]", item: _Item[T] | _End, ended: threading.Event) -> bool:
    """Wait for a free place, but look up now and then: a consumer that has stopped will never free one."""
    while not ended.is_set():
        try:
            items.put(item, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
