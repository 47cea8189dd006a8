import threading
import time
from collections.abc import Iterator

import pytest

from bertsmith.data import prefetched


def test_items_and_their_order_stay() -> None:
    assert list(prefetched(iter(range(50)), depth=3)) == list(range(50))
    assert list(prefetched(iter([]), depth=1)) == []


def test_errors_come_after_the_items_before_them() -> None:
    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("the third is bad")

    items = prefetched(failing())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="third is bad"):
        next(items)


def test_it_runs_ahead_but_not_far() -> None:
    drawn: list[int] = []

    def counting() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    items = prefetched(counting(), depth=2)
    next(items)
    deadline = time.monotonic() + 5
    while len(drawn) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert drawn == [0, 1, 2, 3]  # one taken, two waiting, one in hand
    items.close()


def test_a_consumer_that_stops_ends_the_thread() -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 0

    items = prefetched(endless())
    next(items)
    items.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "bertsmith-prefetch"]
