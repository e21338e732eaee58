"""Answers that were asked for a moment ago, so that a request in steady state asks SQL nothing."""

import asyncio
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key")
Question = TypeVar("Question")
Answer = TypeVar("Answer")


class _Known(NamedTuple, Generic[Answer]):
    answer: Answer
    asked_at: float


class Fresh(Generic[Key, Question, Answer]):
    """Remembers what `ask` has answered, by a key of the question.

    After `fresh_seconds` it is asked again, and meanwhile taken for what it was, but no longer than `stale_seconds`. Of
    many who want to know the same at once, one asks. All of it happens in one event loop, but `forget`.
    """

    def __init__(
        self, ask: Callable[[Question], Answer], fresh_seconds: float, stale_seconds: float, most: int
    ) -> None:
        self._ask = ask
        self._fresh_seconds = fresh_seconds
        self._stale_seconds = stale_seconds
        self._most = most
        self._known: dict[Key, _Known[Answer]] = {}
        self._asking: dict[Key, asyncio.Task[Answer]] = {}
        self._forgotten = 0

    def known(self, key: Key, question: Question) -> Answer | None:
        """The answer, if it was asked for a moment ago; soon it is asked for again."""
        known = self._known.get(key)
        if known is None:
            return None
        age = time.monotonic() - known.asked_at
        if age >= self._fresh_seconds and key not in self._asking:
            self._start(key, question)
        return known.answer if age < self._stale_seconds else None

    async def find(self, key: Key, question: Question) -> Answer:
        """The answer. Raises what `ask` raises, which is not remembered."""
        if (known := self.known(key, question)) is not None:
            return known
        return await asyncio.shield(self._asking.get(key) or self._start(key, question))

    def forget(self, condition: Callable[[Answer], bool]) -> None:
        """Ask again for the answers that no longer hold."""
        self._forgotten += 1  # who is asking just now may have been told what held before
        for key, known in list(self._known.items()):
            if condition(known.answer):
                self._known.pop(key, None)

    def _start(self, key: Key, question: Question) -> asyncio.Task[Answer]:
        task = asyncio.create_task(self._look_up(key, question))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may wait for it
        self._asking[key] = task
        return task

    async def _look_up(self, key: Key, question: Question) -> Answer:
        asked_at, forgotten = time.monotonic(), self._forgotten
        try:
            answer = await asyncio.to_thread(self._ask, question)
        except BaseException:
            self._known.pop(key, None)
            raise
        finally:
            del self._asking[key]
        if len(self._known) >= self._most:
            self._known.clear()
        if forgotten == self._forgotten:
            self._known[key] = _Known(answer, asked_at)
        return answer
