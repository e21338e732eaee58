"""Batches computed by `infer` workers: one Celery task each, answered on a Redis channel of this process."""

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

from service.inference import task_encoding
from service.inference.backend import BackendUnavailable, Computed
from service.inference.modality_values import Array
from service.inference.queries import Computation, Loadable
from service.inference.rows import Rows, merged
from service.inference.task_encoding import Order, Stored
from service.shared import broker
from service.shared.errors import TooLarge
from service.shared.outage_log import Outage

log = structlog.get_logger(__name__)

# After this time the next batch is sent as well: the worker of this one may have been killed.
SLOT_SECONDS = 1.0
RECONNECT_SECONDS = 0.2
OPEN_SECONDS = 3.0
LISTEN_SECONDS = 5.0
# Redis disconnects clients that send more than 512 MB in one value, and kombu sends four bytes for three.
MAX_SENT_BYTES = 256 * 1024**2


class CeleryBackend:
    """Sends batches and receives their answers. A request whose answer was lost fails after `reply_seconds`."""

    slot_seconds: float | None = SLOT_SECONDS

    def __init__(self, messages: Celery, redis_url: str, reply_seconds: float, max_batches: int) -> None:
        self.max_batches = max_batches
        self._messages = messages
        self._redis = Redis.from_url(
            redis_url, socket_connect_timeout=2, socket_keepalive=True, health_check_interval=10
        )
        self._reply_seconds = reply_seconds
        self._channel = f"sensorium.answers.{uuid4().hex}"
        self._waiting: dict[str, asyncio.Future[Computed | Stored]] = {}
        self._sending = ThreadPoolExecutor(1, thread_name_prefix="orders")
        self._listening: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._closing = False
        self._outage = Outage(log, "reply_channel_failed", "reply_channel_recovered")

    async def open(self) -> None:
        """Start to listen for answers, and wait for the subscription unless Redis is unreachable."""
        self._listening = asyncio.create_task(self._listen())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OPEN_SECONDS):
                await self._connected.wait()

    async def close(self) -> None:
        """Stop listening."""
        self._closing = True  # the time-outs of the Redis client may swallow a cancellation
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening
        self._sending.shutdown(cancel_futures=True)
        await self._redis.aclose()

    async def prepare(self, version: Loadable) -> None:
        """Nothing to do: workers load a version with its first batch."""

    async def unload(self, version: Loadable) -> None:
        """Nothing to do: workers unload the versions that were not used for longest."""

    async def compute(
        self, computation: Computation, parts: Sequence[Rows], state: Array | None, within_seconds: float
    ) -> Computed:
        """The answer of the worker that takes the batch."""
        if not self._connected.is_set():
            raise _unavailable("Redis does not answer")
        order_id, loop = uuid4().hex, asyncio.get_running_loop()
        answer: asyncio.Future[Computed | Stored] = loop.create_future()
        self._waiting[order_id] = answer
        seconds = min(self._reply_seconds, within_seconds)
        try:
            async with asyncio.timeout(self._reply_seconds):
                await loop.run_in_executor(self._sending, self._send, order_id, computation, parts, state, seconds)
                received = await answer
                return received if isinstance(received, Computed) else await self._fetch(received)
        except TimeoutError as error:
            raise _unavailable(f"no infer worker has answered within {self._reply_seconds:g} s") from error
        except (KombuError, OSError) as error:
            raise _unavailable("the batch could not be sent to Redis") from error
        finally:
            del self._waiting[order_id]

    def _send(
        self, order_id: str, computation: Computation, parts: Sequence[Rows], state: Array | None, seconds: float
    ) -> None:
        order = Order(order_id, self._channel, time.time() + seconds, computation, merged(parts), state)
        packed = task_encoding.pack_order(order)
        if len(packed) > MAX_SENT_BYTES:
            detail = (
                f"the rows are a message of {len(packed)} bytes, expected at most {MAX_SENT_BYTES}; send fewer rows"
            )
            raise TooLarge("rows_too_large", detail)
        broker.order(self._messages, packed, seconds)

    async def _listen(self) -> None:
        """Receive answers until `close`. A lost connection fails the pending batches: Redis does not store messages."""
        while not self._closing:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=False) as answers:
                    await answers.subscribe(self._channel)
                    while not self._closing:
                        message = await answers.get_message(timeout=LISTEN_SECONDS)
                        if message is None:
                            await answers.ping()  # detects a dead connection
                        elif message["type"] == "subscribe":
                            self._connected.set()
                            self._outage.works("answers")
                        elif message["type"] == "message":
                            self._receive(message["data"])
            except (RedisError, OSError) as error:
                self._outage.failed("answers", error)
            except Exception as error:  # later answers have to be received
                self._outage.failed("answers", error, trace=True)
            self._fail_all()
            if not self._closing:
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _fetch(self, stored: Stored) -> Computed:
        """An answer that is too large to publish. It runs in the request's task, beside `_listen`."""
        try:
            packed = await self._redis.getdel(stored.key)
        except (RedisError, OSError) as error:
            raise _unavailable("the answer could not be fetched from Redis") from error
        if not isinstance(packed, bytes):
            raise _unavailable("the stored answer has expired")
        _, received = await asyncio.to_thread(task_encoding.unpack_answer, packed)  # it has megabytes
        if not isinstance(received, Computed):
            raise _unavailable("the stored answer cannot be read")
        return received

    def _receive(self, packed: bytes) -> None:
        """Pass an answer to the request that waits for it. Log one that cannot be read, as of another release."""
        try:
            order_id, received = task_encoding.unpack_answer(packed)
        except Exception:
            log.exception("answer_read_failed")
            return
        waiting = self._waiting.get(order_id)
        if waiting is None or waiting.done():
            return
        if isinstance(received, Exception):
            waiting.set_exception(received)
        else:
            waiting.set_result(received)

    def _fail_all(self) -> None:
        self._connected.clear()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(_unavailable("the connection on which answers come was lost"))


def _unavailable(why: str) -> BackendUnavailable:
    return BackendUnavailable("inference_unavailable", f"{why}; try again")
