"""What was asked for a moment ago is not asked again, and of many who want to know, one asks."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from service.shared.stale_cache import Fresh


class Source:
    """Something slow that can change, and that counts how often it was asked."""

    def __init__(self) -> None:
        self.answer = "first"
        self.asked: list[str] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, question: str) -> str:
        self.asked.append(question)
        answer = self.answer
        assert self.go.wait(60)
        if answer == "nothing":
            raise LookupError(question)
        return answer


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_of_many_who_ask_at_once_one_asks() -> None:
    source = Source()

    async def ask() -> list[str]:
        fresh: Fresh[str, str, str] = Fresh(source, 10, 20, 100)
        return await asyncio.gather(*(fresh.find("k", "q") for _ in range(20)))

    assert run(ask()) == ["first"] * 20
    assert source.asked == ["q"]


def test_what_is_no_longer_fresh_still_answers_while_it_is_asked_for_again() -> None:
    source = Source()

    async def ask() -> list[str | None]:
        fresh: Fresh[str, str, str] = Fresh(source, 0.05, 10, 100)
        found: list[str | None] = [await fresh.find("k", "q")]
        source.answer = "second"
        await asyncio.sleep(0.1)
        source.go.clear()
        found += [fresh.known("k", "q"), fresh.known("k", "q")]  # it is being asked for, once
        source.go.set()
        deadline = time.monotonic() + 5
        while fresh.known("k", "q") != "second" and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return [*found, fresh.known("k", "q")]

    assert run(ask()) == ["first", "first", "first", "second"]


def test_what_is_stale_answers_nobody() -> None:
    source = Source()

    async def ask() -> str | None:
        fresh: Fresh[str, str, str] = Fresh(source, 0.01, 0.05, 100)
        await fresh.find("k", "q")
        source.go.clear()
        await asyncio.sleep(0.1)
        found = fresh.known("k", "q")
        source.go.set()
        return found

    assert run(ask()) is None


def test_an_error_is_told_to_all_who_wait_and_not_remembered() -> None:
    source = Source()
    source.answer = "nothing"

    async def ask() -> str:
        fresh: Fresh[str, str, str] = Fresh(source, 10, 20, 100)
        found = await asyncio.gather(*(fresh.find("k", "q") for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in found] == [LookupError] * 3
        source.answer = "there"
        return await fresh.find("k", "q")

    assert run(ask()) == "there"


def test_who_stops_waiting_stops_nobody_else() -> None:
    source = Source()
    source.go.clear()

    async def ask() -> str:
        fresh: Fresh[str, str, str] = Fresh(source, 10, 20, 100)
        impatient, patient = (asyncio.create_task(fresh.find("k", "q")) for _ in range(2))
        await asyncio.sleep(0.05)
        impatient.cancel()
        source.go.set()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        return await patient

    assert run(ask()) == "first"


def test_what_was_forgotten_while_it_was_asked_for_is_not_remembered() -> None:
    source = Source()

    async def ask() -> str | None:
        fresh: Fresh[str, str, str] = Fresh(source, 10, 20, 100)
        source.go.clear()
        asking = asyncio.create_task(fresh.find("k", "q"))
        await asyncio.sleep(0.05)
        fresh.forget(lambda answer: True)
        source.go.set()
        assert await asking == "first"
        return fresh.known("k", "q")

    assert run(ask()) is None
