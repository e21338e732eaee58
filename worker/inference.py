"""An `infer` worker: computes the batches of API processes and answers each on the Redis channel that it names."""

import time

import structlog
from celery import signals
from redis import Redis
from redis.exceptions import RedisError

import models
from service.inference import task_encoding
from service.inference.backend import Computed
from service.inference.engine import Engine
from service.inference.engine_host import BEAT_SECONDS, TICK_SECONDS, EngineHost
from service.inference.metrics import EngineCollector
from service.inference.task_encoding import Order
from service.shared import broker, garbage_collection
from service.shared.broker_health import BrokerWatch
from service.shared.database import Database
from service.shared.errors import Unavailable
from service.shared.periodic_thread import PeriodicThread
from service.shared.settings import Settings
from service.shared.storage import from_settings
from worker import celery_consumer, metrics, presence
from worker.health import HealthServer

log = structlog.get_logger(__name__)

# One thread computes while the other loads a version. More threads compete for the interpreter lock.
THREADS = 2
# Redis disconnects a subscriber that has 32 MB of messages pending: the API fetches larger answers from a key.
MAX_PUBLISHED_BYTES = 2**20
STORED_SECONDS = 30


def serve(settings: Settings, database: Database, owner: str) -> None:
    """Compute batches until SIGTERM, then finish those under way."""
    messages = broker.connect(settings)
    redis = Redis.from_url(settings.broker_url, socket_timeout=5, socket_connect_timeout=2, socket_keepalive=True)
    engine = Engine(from_settings(settings), settings.inference_memory_bytes, settings.inference_threads)
    host = EngineHost(database, engine, settings)

    @messages.task(name=broker.INFER_TASK)  # type: ignore[untyped-decorator]
    def infer(packed: bytes) -> None:
        answer(engine, redis, packed)

    models.use_threads(settings.inference_threads)  # imports torch before the first batch comes
    short = [
        PeriodicThread("presence", presence.BEAT_SECONDS, lambda: presence.beat(database, owner, None)),
        PeriodicThread("engine beat", BEAT_SECONDS, host.beat),
    ]
    load = PeriodicThread("engine", TICK_SECONDS, host.tick)
    for thread in short:
        thread.start()
    # /healthz does not check `load`, whose tick may load a version. Loaded versions do not need SQL.
    dependencies = {"broker": BrokerWatch(settings.broker_url).answers}
    health = HealthServer(settings, short, [EngineCollector(engine.use)], dependencies)
    host.tick()  # load the versions that aliases name before the first batch comes
    garbage_collection.freeze()
    load.start()
    signals.worker_ready.connect(health.mark_started, weak=False)
    try:
        celery_consumer.consume(messages, broker.INFER, owner, THREADS)
    finally:
        for thread in (*short, load):
            thread.close()
        health.close()
        host.close()


def answer(engine: Engine, redis: Redis, packed: bytes) -> None:
    """Compute one batch and publish the answer, or the error. A batch that has expired is dropped."""
    order = task_encoding.unpack_order(packed)
    if time.time() > order.expires_at:
        log.warning("order_expired", order_id=order.id)
        metrics.BATCHES.labels("expired").inc()
        return
    reply = _compute(engine, order)
    try:
        redis.publish(order.channel, reply if len(reply) <= MAX_PUBLISHED_BYTES else _store(redis, order, reply))
    except RedisError as error:  # the caller gets a time-out
        log.warning("answer_send_failed", order_id=order.id, error=str(error))


def _compute(engine: Engine, order: Order) -> bytes:
    started_at = time.monotonic()
    try:
        tree = engine.answer(order.computation, order.rows, order.state)
        seconds = time.monotonic() - started_at
        reply = task_encoding.pack_answer(order.id, Computed(tree, seconds))
    except Exception as error:  # a bug fails the batch; the worker goes on
        log.warning("order_failed", order_id=order.id, error=f"{type(error).__name__}: {error}")
        metrics.BATCHES.labels("failed").inc()
        return task_encoding.pack_failure(order.id, error)
    metrics.BATCHES.labels("answered").inc()
    metrics.COMPUTE_SECONDS.inc(seconds)
    return reply


def _store(redis: Redis, order: Order, reply: bytes) -> bytes:
    """Store a large answer under a key for the API to fetch. Returns a message with the key, or with the error."""
    key = f"sensorium.answer.{order.id}"
    try:
        redis.set(key, reply, ex=STORED_SECONDS)
    except RedisError as error:  # Redis has no memory left, or limits the size of values
        log.warning("answer_store_failed", order_id=order.id, bytes=len(reply), error=str(error))
        detail = f"Redis does not take the batch's answer of {len(reply)} bytes; ask for less at once"
        return task_encoding.pack_failure(order.id, Unavailable("inference_unavailable", detail))
    return task_encoding.pack_stored(order.id, key)
