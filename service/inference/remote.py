"""Batches computed by `infer` workers: one Celery task each, answered on this process's own Redis channel."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import structlog
from celery import Celery
from kombu.exceptions import KombuError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.inference import wire
from service.inference.backend import BackendAway, Computed
from service.inference.payload import Rows
from service.inference.questions import Loadable, Question, merged
from service.inference.values import Array
from service.inference.wire import Kept, Order
from service.shared import broker
from service.shared.errors import TooLarge
from service.shared.outage_log import Outage

log = structlog.get_logger(__name__)

# A batch that takes longer does not keep others from being sent: the worker that had it may have been killed.
SLOT_SECONDS = 1.0
RECONNECT_SECONDS = 0.2
OPEN_SECONDS = 3.0
LISTEN_SECONDS = 5.0
# Redis hangs up on who sends a value of more than 512 MB, and kombu sends four bytes for three.
MOST_SENT_BYTES = 256 * 1024**2


class CeleryBackend:
    """Sends batches, and gives answers to those who wait. An answer that got lost is noticed, never waited for long."""

    slot_seconds: float | None = SLOT_SECONDS

    def __init__(self, messages: Celery, redis_url: str, reply_seconds: float, most_batches: int) -> None:
        self.most_batches = most_batches
        self._messages = messages
        self._redis = Redis.from_url(
            redis_url, socket_connect_timeout=2, socket_keepalive=True, health_check_interval=10
        )
        self._reply_seconds = reply_seconds
        self._channel = f"sensorium.answers.{uuid4().hex}"
        self._waiting: dict[str, asyncio.Future[Computed | Kept]] = {}
        self._sending = ThreadPoolExecutor(1, thread_name_prefix="orders")
        self._listening: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._closing = False
        self._outage = Outage(log, "answers_not_heard", "answers_heard_again")

    async def open(self) -> None:
        """Begin to listen for answers; the first request should not come before that, unless Redis is away."""
        self._listening = asyncio.create_task(self._listen())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OPEN_SECONDS):
                await self._connected.wait()

    async def close(self) -> None:
        """Stop listening; nobody waits any more."""
        self._closing = True  # the client's own time-outs may swallow a cancellation
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening
        self._sending.shutdown(cancel_futures=True)
        await self._redis.aclose()

    async def prepare(self, version: Loadable) -> None:
        """Workers load what they are asked about."""

    async def forget(self, version: Loadable) -> None:
        """Workers let go of what they were not asked about for longest."""

    async def compute(
        self, question: Question, parts: Sequence[Rows], state: Array | None, within_seconds: float
    ) -> Computed:
        """The answer of whichever worker takes the batch."""
        if not self._connected.is_set():
            raise _away("Redis does not answer")
        order_id, loop = uuid4().hex, asyncio.get_running_loop()
        answer: asyncio.Future[Computed | Kept] = loop.create_future()
        self._waiting[order_id] = answer
        seconds = min(self._reply_seconds, within_seconds)
        try:
            async with asyncio.timeout(self._reply_seconds):
                await loop.run_in_executor(self._sending, self._send, order_id, question, parts, state, seconds)
                found = await answer
                return found if isinstance(found, Computed) else await self._fetch(found)
        except TimeoutError as error:
            raise _away(f"no infer worker has answered within {self._reply_seconds:g} s") from error
        except (KombuError, OSError) as error:
            raise _away("the batch could not be sent: Redis does not take it") from error
        finally:
            del self._waiting[order_id]

    def _send(
        self, order_id: str, question: Question, parts: Sequence[Rows], state: Array | None, seconds: float
    ) -> None:
        order = Order(order_id, self._channel, time.time() + seconds, question, merged(parts), state)
        packed = wire.pack_order(order)
        if len(packed) > MOST_SENT_BYTES:
            detail = (
                f"the rows are a message of {len(packed)} bytes, expected at most {MOST_SENT_BYTES}; send fewer rows"
            )
            raise TooLarge("rows_too_large", detail)
        broker.order(self._messages, packed, seconds)

    async def _listen(self) -> None:
        """Hand out answers, for as long as the process lives. Pub/sub keeps nothing for those who are away."""
        while not self._closing:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=False) as answers:
                    await answers.subscribe(self._channel)
                    while not self._closing:
                        message = await answers.get_message(timeout=LISTEN_SECONDS)
                        if message is None:
                            await answers.ping()  # notices a connection that is open and dead
                        elif message["type"] == "subscribe":
                            self._connected.set()
                            self._outage.works("answers")
                        elif message["type"] == "message":
                            self._hear(message["data"])
            except (RedisError, OSError) as error:
                self._outage.failed("answers", error)
            except Exception as error:  # whatever it is, later answers are to be heard
                self._outage.failed("answers", error, trace=True)
            self._fail_all()
            if not self._closing:
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _fetch(self, kept: Kept) -> Computed:
        """An answer that a channel does not carry. Who fetches keeps nobody from hearing theirs."""
        try:
            packed = await self._redis.getdel(kept.key)
        except (RedisError, OSError) as error:
            raise _away("the answer could not be fetched: Redis does not give it") from error
        if not isinstance(packed, bytes):
            raise _away("the answer was kept for too short a time")
        _, found = await asyncio.to_thread(wire.read_answer, packed)  # it has megabytes
        if not isinstance(found, Computed):
            raise _away("the answer that was kept is none")
        return found

    def _hear(self, packed: bytes) -> None:
        """Hand out an answer. One that cannot be read, as of another release, is left alone."""
        try:
            order_id, found = wire.read_answer(packed)
        except Exception:
            log.exception("answer_not_read")
            return
        waiting = self._waiting.get(order_id)
        if waiting is None or waiting.done():
            return
        if isinstance(found, Exception):
            waiting.set_exception(found)
        else:
            waiting.set_result(found)

    def _fail_all(self) -> None:
        self._connected.clear()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(_away("the connection on which answers come was lost"))


def _away(why: str) -> BackendAway:
    return BackendAway("inference_unavailable", f"{why}; try again")
