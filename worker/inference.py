"""An `infer` worker: computes batches that API processes send, and answers each on the channel that it names."""

import os
import platform
import socket
import time

import structlog
from celery import signals
from redis import Redis
from redis.exceptions import RedisError

import models
from service.inference import wire
from service.inference.backend import Computed
from service.inference.engine import Engine
from service.inference.holdings import EngineCollector
from service.inference.host import BEAT_SECONDS, TICK_SECONDS, EngineHost
from service.inference.wire import Order
from service.jobs import workers
from service.shared import broker, collector
from service.shared.broker_watch import BrokerWatch
from service.shared.database import Database
from service.shared.errors import Unavailable
from service.shared.settings import Settings
from service.shared.storage import from_settings
from service.shared.ticker import Ticker
from worker import celery_consumer, metrics
from worker.health import HealthServer
from worker.versions import library_versions

log = structlog.get_logger(__name__)

# One computes, and the other loads a version meanwhile; more would only take the interpreter from each other.
THREADS = 2
# Redis cuts off who has 32 MB of messages to read: larger answers are fetched.
MOST_PUBLISHED_BYTES = 2**20
KEPT_SECONDS = 30


def main(settings: Settings) -> None:
    """Compute until SIGTERM, then finish what is under way."""
    messages, database = broker.connect(settings), Database(settings.database_url, settings.reserve_bytes)
    answers = Redis.from_url(settings.broker_url, socket_timeout=5, socket_connect_timeout=2, socket_keepalive=True)
    engine = Engine(from_settings(settings), settings.inference_memory_bytes, settings.inference_threads)
    host = EngineHost(database, engine, settings)
    versions = {"python": platform.python_version(), **library_versions()}
    with database.writer.begin() as session:
        owner = workers.register(session, socket.gethostname(), os.getpid(), broker.INFER, settings.devices, versions)

    def beat() -> None:
        with database.writer.begin() as session:
            workers.beat(session, owner, None)

    @messages.task(name=broker.INFER_TASK)  # type: ignore[untyped-decorator]
    def infer(packed: bytes) -> None:
        attend(engine, answers, packed)

    models.use_threads(settings.inference_threads)  # imports torch: nobody's first order waits for that
    tickers = [
        Ticker("presence", celery_consumer.PRESENCE_SECONDS, beat),
        Ticker("engine beat", BEAT_SECONDS, host.beat),
        Ticker("engine", TICK_SECONDS, host.tick),
    ]
    for ticker in tickers[:2]:
        ticker.start()
    # Loading a version takes as long as it takes: "engine" is not asked whether it goes on.
    # Nor does it need SQL for what it has loaded.
    health = HealthServer(
        settings, tickers[:2], [EngineCollector(engine)], {"broker": BrokerWatch(settings.broker_url).answers}
    )
    host.tick()  # nor for what aliases name
    collector.settle()
    tickers[2].start()
    signals.worker_ready.connect(health.ready, weak=False)
    try:
        celery_consumer.consume(messages, broker.INFER, owner, THREADS)
    finally:
        for ticker in tickers:
            ticker.close()
        health.close()
        host.close()
        with database.writer.begin() as session:
            workers.unregister(session, owner)
        database.close()


def attend(engine: Engine, answers: Redis, packed: bytes) -> None:
    """Compute one batch, unless nobody waits for it any more, and publish the answer or what is wrong."""
    order = wire.read_order(packed)
    if time.time() > order.expires_at:
        log.warning("order_expired", order_id=order.id)
        metrics.ORDERS.labels("expired").inc()
        return
    began_at = time.monotonic()
    try:
        tree = engine.answer(order.question, order.rows, order.state)
        seconds = time.monotonic() - began_at
        answer = wire.pack_answer(order.id, Computed(tree, seconds))
        metrics.ORDERS.labels("answered").inc()
        metrics.COMPUTE_SECONDS.inc(seconds)
    except Exception as error:  # a fault of ours is the batch's, not the worker's
        log.warning("order_failed", order_id=order.id, error=f"{type(error).__name__}: {error}")
        metrics.ORDERS.labels("failed").inc()
        answer = wire.pack_failure(order.id, error)
    try:
        answers.publish(order.channel, answer if len(answer) <= MOST_PUBLISHED_BYTES else _kept(answers, order, answer))
    except RedisError as error:
        log.warning("answer_not_sent", order_id=order.id, error=str(error))  # who waits is told after a time


def _kept(answers: Redis, order: Order, answer: bytes) -> bytes:
    """Keep a large answer for who waits to fetch. Returns where it is, or why it is nowhere."""
    key = f"sensorium.answer.{order.id}"
    try:
        answers.set(key, answer, ex=KEPT_SECONDS)
    except RedisError as error:  # it has no memory left, or takes no value as large
        log.warning("answer_not_kept", order_id=order.id, bytes=len(answer), error=str(error))
        detail = f"Redis does not take the batch's answer of {len(answer)} bytes; ask for less at once"
        return wire.pack_failure(order.id, Unavailable("inference_unavailable", detail))
    return wire.pack_kept(order.id, key)
