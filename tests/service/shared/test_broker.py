"""Wake-ups: each is delivered once, and an unreachable broker does not block the sender."""

import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty

import pytest
from celery import Celery

from service.shared import broker
from service.shared.settings import Settings
from tests import servers


@pytest.fixture(params=["filesystem", "redis"])
def messages(request: pytest.FixtureRequest, tmp_path: Path) -> Celery:
    """A Celery client, once per supported kind of broker."""
    url = "filesystem://" if request.param == "filesystem" else request.getfixturevalue("redis_url")
    settings = Settings(home=tmp_path, broker=url)
    broker.declare(settings)
    return broker.connect(settings)


def take(messages: Celery, queue: str, timeout: float = 0.5) -> list[str]:
    """The job ids of all messages of a queue."""
    found = []
    with messages.connection_for_read() as connection, connection.SimpleQueue(queue) as waiting:
        while True:
            try:
                message = waiting.get(timeout=timeout)
            except Empty:
                return found
            message.ack()
            found.append(message.payload[0][0])


def test_wake_ups_arrive_on_their_queue_in_order(messages: Celery) -> None:
    for n in range(3):
        broker.wake(messages, "train", f"job_{n}")
    broker.wake(messages, "data", "job_data")
    assert take(messages, "train") == ["job_0", "job_1", "job_2"]
    assert take(messages, "data") == ["job_data"]


def test_declare_empties_the_queues(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    broker.declare(settings)
    messages = broker.connect(settings)
    broker.wake(messages, "train", "job_old")
    broker.declare(settings)
    broker.wake(messages, "train", "job_new")
    assert take(messages, "train") == ["job_new"]


def test_concurrent_consumers_take_each_message_once(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    broker.declare(settings)
    sender = broker.connect(settings)
    sent = {f"job_{n}" for n in range(60)}
    start = threading.Barrier(4)

    def consume(_: int) -> list[str]:
        messages = broker.connect(settings)
        start.wait()
        return take(messages, "data")

    for job_id in sent:
        broker.wake(sender, "data", job_id)
    with ThreadPoolExecutor(4) as pool:
        taken = [job_id for part in pool.map(consume, range(4)) for job_id in part]
    assert len(taken) == len(sent)
    assert set(taken) == sent


def test_a_taken_message_leaves_no_file_in_the_folder(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    broker.declare(settings)
    messages = broker.connect(settings)
    broker.wake(messages, "data", "job_1")
    assert len(list((settings.queue_folder / "messages").iterdir())) == 1
    assert take(messages, "data") == ["job_1"]
    assert list((settings.queue_folder / "messages").iterdir()) == []
    assert list((settings.queue_folder / "taken").iterdir()) == []


def test_a_partially_written_message_is_not_delivered(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    broker.declare(settings)
    messages = broker.connect(settings)
    (settings.queue_folder / "messages" / "1_a.data.tmp").write_text('{"half')
    broker.wake(messages, "data", "job_1")
    assert take(messages, "data") == ["job_1"]


def test_a_wake_up_without_a_broker_fails_quickly(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, broker=f"redis://127.0.0.1:{servers.free_port()}/0")
    messages = broker.connect(settings)
    started_at = time.monotonic()
    broker.wake(messages, "data", "job_1")
    assert time.monotonic() - started_at < 60


@pytest.mark.usefixtures("redis_url")
def test_a_wake_up_to_a_stopped_broker_fails_quickly(tmp_path: Path) -> None:
    with servers.redis_server(tmp_path / "redis") as url:
        messages = broker.connect(Settings(home=tmp_path, broker=url))
        broker.wake(messages, "data", "job_1")
    started_at = time.monotonic()
    for _ in range(2):
        broker.wake(messages, "data", "job_2")
    assert time.monotonic() - started_at < 60


def test_a_wake_up_to_an_unwritable_folder_fails_quickly(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    broker.declare(settings)
    messages = broker.connect(settings)
    for path in (settings.queue_folder / "messages").iterdir():
        path.unlink()
    (settings.queue_folder / "messages").rmdir()
    broker.wake(messages, "data", "job_1")
    assert not (settings.queue_folder / "messages").exists()


def test_tls_connections_verify_the_certificate(tmp_path: Path) -> None:
    messages = broker.connect(Settings(home=tmp_path, broker="rediss://host:6380/0", secret_key="s" * 32))
    assert messages.connection().ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
