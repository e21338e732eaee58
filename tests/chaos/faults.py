"""The faults, each a function of a running stack that hurts it and lets it come back."""

import os
import random
import signal
import time
from collections.abc import Callable, Sequence

from sqlalchemy import select

from service.jobs.tables import Job
from service.shared import broker
from tests.chaos.stack import Stack

FROZEN_SECONDS = 7.0
FULL_SECONDS = 2.5

Fault = Callable[[Stack, random.Random], bool]


def kill_trainer(stack: Stack, chance: random.Random) -> bool:
    """kill -9 of a trainer, or of one that waits."""
    if not (trainers := stack.trainers()):
        return False
    try:
        os.kill(chance.choice(trainers), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def kill_worker(stack: Stack, chance: random.Random) -> bool:
    """kill -9 of a worker."""
    chance.choice(stack.workers).signal(signal.SIGKILL)
    return True


def kill_api_before_it_publishes(stack: Stack, chance: random.Random) -> bool:
    """A run is committed while Redis is frozen, and the API is killed while it tries to tell a worker."""
    stack.redis.process.send_signal(signal.SIGSTOP)
    try:
        stack.submit()
        stack.api.signal(signal.SIGKILL)
    finally:
        stack.redis.process.send_signal(signal.SIGCONT)
    return True


def kill_redis(stack: Stack, chance: random.Random) -> bool:
    """Redis dies and comes back empty."""
    stack.redis.restart(signal.SIGKILL)
    return True


def freeze_redis(stack: Stack, chance: random.Random) -> bool:
    """Redis holds its connections and answers nothing."""
    stack.redis.process.send_signal(signal.SIGSTOP)
    time.sleep(FROZEN_SECONDS)
    stack.redis.process.send_signal(signal.SIGCONT)
    return True


def restart_postgresql(stack: Stack, chance: random.Random) -> bool:
    """PostgreSQL ends at once, all connections with it, and recovers."""
    stack.postgresql.restart(signal.SIGQUIT)
    stack.postgresql.wait_until_ready()
    return True


def fill_disk(stack: Stack, chance: random.Random) -> bool:
    """No byte is left where checkpoints and artifacts are written."""
    if not os.path.ismount(stack.home):
        return False
    ballast = stack.home / "ballast"
    with ballast.open("wb") as file:
        try:
            while True:
                file.write(bytes(1024 * 1024))
                file.flush()
        except OSError:
            pass
    time.sleep(FULL_SECONDS)
    ballast.unlink()
    return True


def repeat_messages(stack: Stack, chance: random.Random) -> bool:
    """Every job that is not done is announced five times, in any order, to workers who are told at once."""
    with stack.database.reader() as session:
        ids = list(session.scalars(select(Job.id).where(Job.state.in_(("queued", "running"))).limit(20)))
    repeated = ids * 5
    chance.shuffle(repeated)
    for job_id in repeated:
        broker.wake(stack.messages, "train", job_id)
    return bool(repeated)


def roll_workers(stack: Stack, chance: random.Random) -> bool:
    """SIGTERM to every worker, one after the other, under load."""
    for worker in stack.workers:
        worker.signal(signal.SIGTERM)
        time.sleep(1.0)
    return True


EVERY: Sequence[Fault] = (
    kill_trainer,
    kill_worker,
    kill_api_before_it_publishes,
    kill_redis,
    freeze_redis,
    restart_postgresql,
    fill_disk,
    repeat_messages,
    roll_workers,
)
