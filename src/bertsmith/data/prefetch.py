"""Prefetching: a thread prepares the next items while the caller works on this one."""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


def prefetched(iterator: Iterator[T], depth: int = 2) -> Iterator[T]:
    """The same items in the same order, prepared up to `depth` ahead. Errors of `iterator` are raised here, in turn."""
    items: queue.Queue[_Item[T] | _End] = queue.Queue(maxsize=depth)
    stop = threading.Event()
    thread = threading.Thread(target=_fill, args=(iterator, items, stop), name="bertsmith-prefetch", daemon=True)
    thread.start()
    try:
        while isinstance(item := items.get(), _Item):
            yield item.value
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True)
class _Item(Generic[T]):
    value: T


@dataclass(frozen=True)
class _End:
    error: BaseException | None


def _fill(iterator: Iterator[T], items: "queue.Queue[_Item[T] | _End]", stop: threading.Event) -> None:
    end = _End(None)
    try:
        for value in iterator:
            if not _put(items, _Item(value), stop):
                return
    except BaseException as error:
        end = _End(error)
    _put(items, end, stop)


def _put(items: "queue.Queue[_Item[T] | _End]", item: _Item[T] | _End, stop: threading.Event) -> bool:
    """Wait for a free place, but look up now and then: a consumer that has stopped will never free one."""
    while not stop.is_set():
        try:
            items.put(item, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
