"""The faults: each function injects one fault into a running stack, and ends it."""

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
    """Kill a busy or a spare trainer with SIGKILL."""
    if not (trainers := stack.trainers()):
        return False
    try:
        os.kill(chance.choice(trainers), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def kill_worker(stack: Stack, chance: random.Random) -> bool:
    """Kill a worker with SIGKILL."""
    chance.choice(stack.workers).signal(signal.SIGKILL)
    return True


def kill_api_before_it_publishes(stack: Stack, chance: random.Random) -> bool:
    """Commit a run while Redis is frozen, and kill the API while it tries to publish the wake-up."""
    stack.redis.process.send_signal(signal.SIGSTOP)
    try:
        stack.submit()
        stack.api.signal(signal.SIGKILL)
    finally:
        stack.redis.process.send_signal(signal.SIGCONT)
    return True


def kill_redis(stack: Stack, chance: random.Random) -> bool:
    """Kill Redis, and start it again without data."""
    stack.redis.restart(signal.SIGKILL)
    return True


def freeze_redis(stack: Stack, chance: random.Random) -> bool:
    """Freeze Redis: its connections stay open, and it does not respond."""
    stack.redis.process.send_signal(signal.SIGSTOP)
    time.sleep(FROZEN_SECONDS)
    stack.redis.process.send_signal(signal.SIGCONT)
    return True


def restart_postgresql(stack: Stack, chance: random.Random) -> bool:
    """Stop PostgreSQL immediately, without a checkpoint, and start it again."""
    stack.postgresql.restart(signal.SIGQUIT)
    stack.postgresql.wait_until_ready()
    return True


def fill_disk(stack: Stack, chance: random.Random) -> bool:
    """Fill the disk of checkpoints and artifacts completely."""
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
    """Send five wake-ups for each unfinished job, in random order."""
    with stack.database.reader() as session:
        ids = list(session.scalars(select(Job.id).where(Job.state.in_(("queued", "running"))).limit(20)))
    repeated = ids * 5
    chance.shuffle(repeated)
    for job_id in repeated:
        broker.wake(stack.messages, "train", job_id)
    return bool(repeated)


def roll_workers(stack: Stack, chance: random.Random) -> bool:
    """Send SIGTERM to every worker, one by one, under load."""
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
