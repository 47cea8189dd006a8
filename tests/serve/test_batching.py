"""The queue by itself, before services that say what they were given."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.serve import Limits
from bertsmith.serve.batching import SHARE, Batch, Batcher, Place, Reading
from bertsmith.serve.errors import Invalid, ModelFailed, Overloaded, Refusal, Unavailable


class Echo:
    """Gives back what it was given. The first batch waits until it is let go; `bad` texts fail in several ways."""

    def __init__(self, name: str = "echo") -> None:
        self.name = name
        self.batches: list[list[Any]] = []
        self.go = threading.Event()

    def run(self, values: Sequence[Any]) -> Sequence[Any]:
        self.batches.append(list(values))
        if len(self.batches) == 1:
            assert self.go.wait(10)
        if "bad" in values:
            raise MemoryError
        if "fatal" in values:
            raise SystemExit
        return [Invalid("no") if value == "refused" else value for value in values]


def reading(value: Any, tokens: int = 10) -> Reading:
    return Reading(value, tokens)


def play(scene: Callable[[Batcher], Coroutine[Any, Any, Any]], **limits: Any) -> list[Batch]:
    """Run a scene with a batcher; what it counted."""
    counted: list[Batch] = []

    async def stage() -> None:
        batcher = Batcher(Limits(**limits), counted.append)
        batcher.start()
        try:
            await asyncio.wait_for(scene(batcher), 20)
        finally:
            batcher.stop()

    asyncio.run(stage())
    return counted


def begin(batcher: Batcher, service: Echo, values: Sequence[Any], tokens: int = 10) -> asyncio.Task[Any]:
    async def one() -> Any:
        with batcher.admit(0) as place:
            return await batcher.run(service, [reading(value, tokens) for value in values], place)

    return asyncio.ensure_future(one())


async def settle() -> None:
    await asyncio.sleep(0.02)


def test_results_come_back_in_order_and_share_batches() -> None:
    service = Echo()

    async def scene(batcher: Batcher) -> None:
        first = begin(batcher, service, ["opens"])
        await settle()
        others = [begin(batcher, service, [f"{n}a", f"{n}b"]) for n in range(5)]
        await settle()
        service.go.set()
        assert (await first).results == ["opens"]
        assert [(await one).results for one in others] == [[f"{n}a", f"{n}b"] for n in range(5)]
        assert not batcher.places

    counted = play(scene)
    assert [len(batch) for batch in service.batches] == [1, 10]
    assert [(one.texts, one.tokens) for one in counted] == [(1, 10), (10, 100)]


def test_batches_keep_to_their_budget_but_for_one_long_text() -> None:
    service = Echo()

    async def scene(batcher: Batcher) -> None:
        service.go.set()
        await begin(batcher, service, list(range(20)), tokens=100)
        await begin(batcher, service, ["long"], tokens=5000)

    counted = play(scene, batch_tokens=600)
    assert counted[-1].tokens == 5000
    assert max(one.tokens for one in counted[:-1]) <= 600


def test_a_query_overtakes_the_rest_of_a_large_request() -> None:
    service = Echo()

    async def scene(batcher: Batcher) -> None:
        first = begin(batcher, service, ["opens"])
        await settle()
        large = begin(batcher, service, [f"large{n}" for n in range(100)], tokens=500)
        await settle()
        small = begin(batcher, service, ["small"], tokens=500)
        await settle()
        service.go.set()
        await asyncio.gather(first, large, small)

    play(scene, batch_tokens=500, age=0.0)
    order = [value for batch in service.batches for value in batch]
    assert order.index("small") < 10


def test_services_do_not_share_batches_and_urgent_texts_come_first() -> None:
    one, other = Echo("one"), Echo("other")
    other.go.set()

    async def scene(batcher: Batcher) -> None:
        first = begin(batcher, one, ["opens"])
        await settle()
        rest = [begin(batcher, one, [n]) for n in range(3)]
        await settle()
        urgent = asyncio.ensure_future(batcher.run(other, [reading("urgent")], Place(batcher, 0), urgent=True))
        await settle()
        one.go.set()
        await urgent
        await asyncio.gather(first, *rest)

    counted = play(scene)
    assert [batch.service for batch in counted] == ["one", "other", "one"]


def test_texts_of_like_length_are_taken_along_first() -> None:
    service = Echo()

    async def scene(batcher: Batcher) -> None:
        first = begin(batcher, service, ["opens"])
        await settle()
        lengths = [10, 300, 12, 280, 9, 310]
        rest = [begin(batcher, service, [n], tokens=n) for n in lengths]
        await settle()
        service.go.set()
        await asyncio.gather(first, *rest)

    play(scene, batch_tokens=320, age=60.0)
    assert service.batches[1] == [10, 9, 12, 280]
    service.__init__()
    play(scene, batch_tokens=320, age=0.0)  # nobody is overtaken any more
    assert service.batches[1] == [10, 300, 9]


def test_what_nobody_waits_for_is_not_worked_on() -> None:
    service = Echo()

    async def scene(batcher: Batcher) -> None:
        first = begin(batcher, service, ["opens"])
        await settle()
        gone = begin(batcher, service, ["gone"])
        late = begin(batcher, service, ["stays"])
        await settle()
        gone.cancel()
        await settle()
        assert len(batcher.places) == 2
        service.go.set()
        await asyncio.gather(first, late)

    play(scene)
    assert service.batches == [["opens"], ["stays"]]


def test_a_deadline_ends_the_wait() -> None:
    service = Echo()

    async def scene(batcher: Batcher) -> None:
        first = begin(batcher, service, ["opens"])
        await settle()
        with pytest.raises(Unavailable):
            await begin(batcher, service, ["late"])
        service.go.set()
        with pytest.raises(Unavailable):
            await first

    play(scene, timeout=0.1)
    assert service.batches == [["opens"]]


def test_only_the_guilty_text_fails() -> None:
    service = Echo()

    async def scene(batcher: Batcher) -> None:
        first = begin(batcher, service, ["opens"])
        await settle()
        rest = [begin(batcher, service, [value]) for value in ("a", "bad", "b", "refused", "c")]
        await settle()
        service.go.set()
        await first
        found = await asyncio.gather(*rest, return_exceptions=True)
        assert [one.results[0] if not isinstance(one, BaseException) else type(one) for one in found] == [
            "a", ModelFailed, "b", Invalid, "c",
        ]  # fmt: skip
        assert isinstance(found[1].__cause__, MemoryError)
        assert (await begin(batcher, service, ["after"])).results == ["after"]

    play(scene)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_answers_everybody() -> None:
    service = Echo()

    async def scene(batcher: Batcher) -> None:
        service.go.set()
        rest = [begin(batcher, service, [value]) for value in ("fatal", "b")]
        assert all(isinstance(one, Unavailable) for one in await asyncio.gather(*rest, return_exceptions=True))
        batcher._thread.join(5)
        assert not batcher.is_alive
        with pytest.raises(Unavailable):
            await begin(batcher, service, ["c"])

    play(scene)


def test_admission() -> None:
    async def scene(batcher: Batcher) -> None:
        for size, tokens in ((3, 10), (1, 900)):
            places = [batcher.admit(tokens) for _ in range(size)]
            for place in places:
                place.__enter__()
            with pytest.raises(Overloaded) as full:
                batcher.admit(200)
            assert full.value.retry_after >= 1
            for place in places:
                place.__exit__(None, None, None)
        with batcher.admit(
            5000
        ) as alone:  # a request that is too large for the queue is let in where there is no other
            assert batcher.tokens == alone.tokens == 5000
        batcher.draining = True
        with pytest.raises(Unavailable):
            batcher.admit(1)

    play(scene, queue_requests=3, queue_tokens=1000)


def test_a_long_wait_is_refused_but_large_requests_do_not_keep_others_out() -> None:
    async def scene(batcher: Batcher) -> None:
        assert batcher.rate == 5000
        with batcher.admit(500_000), batcher.admit(10):  # 100 seconds of work, of which others wait for a part only
            assert SHARE / batcher.rate < 1
            with batcher.admit(SHARE), batcher.admit(SHARE), pytest.raises(Overloaded) as full:
                batcher.admit(10)
        assert full.value.retry_after > 1

    play(scene, wait=1.0)


def test_a_burst_may_fill_the_queue_and_a_flood_may_not() -> None:
    async def scene(batcher: Batcher) -> None:
        with ExitStack() as burst:
            for _ in range(6):  # 600 tokens are 0.12 seconds
                burst.enter_context(batcher.admit(100))
            assert not batcher.is_flooded()
            with batcher.admit(5000), pytest.raises(Overloaded):
                batcher.admit(100)
            assert batcher.is_flooded()
            with pytest.raises(Overloaded):  # though there is room again
                batcher.admit(100)
        with (
            batcher.admit(100_000),
            batcher.admit(400),
            batcher.admit(100),
            batcher.admit(13),
        ):  # the large one does not count
            with pytest.raises(Overloaded):
                batcher.admit(1)
            await asyncio.sleep(0.11)
            assert not batcher.is_flooded()
            batcher.admit(1)

    play(scene, wait=0.52, flood=0.1, calm=0.1)


def test_after_a_rest_a_burst_is_let_in_though_there_is_a_flood() -> None:
    """A flood in bursts would else leave the model without work between them."""

    async def scene(batcher: Batcher) -> None:
        with batcher.admit(10):
            pass
        await asyncio.sleep(0.3)  # in which 1500 tokens could have been done
        batcher._refused = time.monotonic()
        with ExitStack() as burst:
            for _ in range(12):
                burst.enter_context(batcher.admit(100))
            with pytest.raises(Overloaded):
                for _ in range(20):
                    burst.enter_context(batcher.admit(100))
            await asyncio.sleep(0.3)  # the rest is used up, whatever was done in it
            assert batcher.rest.left == 0
        burst.enter_context(batcher.admit(400))
        burst.enter_context(batcher.admit(1))
        with burst, pytest.raises(Overloaded):
            batcher.admit(1)

    play(scene, wait=10.0, flood=0.02, calm=60.0)


def test_in_a_flood_one_waits_while_one_is_worked_on() -> None:
    async def scene(batcher: Batcher) -> None:
        batcher._refused = time.monotonic()
        with batcher.admit(2000), batcher.admit(2000), pytest.raises(Overloaded):
            batcher.admit(1)

    play(scene, wait=60.0)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2 * SHARE)), max_size=40))
def test_the_load_is_the_sum_of_the_places(steps: list[tuple[int, int]]) -> None:
    batcher = Batcher(Limits())
    places = [Place(batcher, 7) for _ in range(5)]
    for number, tokens in steps:
        place = places[number]
        if place not in batcher.places:
            place.__enter__()
        elif tokens % 3:
            place.tokens = tokens
        else:
            place.__exit__(None, None, None)
        left = [one.tokens for one in batcher.places]
        assert batcher.tokens == sum(left)
        assert batcher.load.small == sum(one for one in left if one <= SHARE)
        assert batcher.load.large == sum(one > SHARE for one in left)


def test_refusals_say_the_same_in_both_shapes() -> None:
    import json

    refusal: Refusal = Invalid("x: no.", param="x")
    assert (refusal.status_for("openai"), refusal.status_for("tei")) == (400, 422)
    detail = {"message": "x: no.", "type": "invalid_request_error", "param": "x", "code": None}
    assert json.loads(refusal.body_for("openai")) == {"error": detail}
    assert json.loads(refusal.body_for("tei")) == {"error": "x: no.", "error_type": "Validation"}
