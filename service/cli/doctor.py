"""Checks of an installation. Each check yields findings with the advice to fix them."""

import difflib
import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import redis
from packaging.requirements import Requirement
from sqlalchemy import make_url, select
from sqlalchemy.exc import SQLAlchemyError

import models
from service.jobs import live_workers
from service.shared import migrate, startup_checks, storage
from service.shared.database import Database, now
from service.shared.errors import SensoriumError, StorageFull
from service.shared.settings import PREFIX, SECRETS_DIR, Settings
from service.shared.startup_checks import first_line

MIN_FREE_BYTES = 2 * 1024**3
# Leases and expiries use the database's clock; logs and tokens use the host's clock.
MAX_SKEW_SECONDS = 5.0
QUEUES = ("train", "data", "infer")
CONNECT_SECONDS = 5
# Variables of clients and tests that the service does not read.
OTHER_VARIABLES = {f"{PREFIX}URL", f"{PREFIX}API_KEY", f"{PREFIX}REQUIRE_SERVICES"}


class State(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """The result of one check. advice: how to fix the problem; empty if there is no problem."""

    name: str
    state: State
    detail: str
    advice: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Run all checks. A check that fails does not stop the others."""
    yield from _start(settings)
    yield from _database(settings)
    for check in (_settings, _broker, _home, _storage, _devices, _packages):
        yield check(settings)


def _start(settings: Settings) -> Iterator[Finding]:
    """The problems that keep the API or any other process from starting, in the same words as the process."""
    problems = startup_checks.find_problems(settings, signs=True)
    yield from (Finding("start", State.PROBLEM, problem) for problem in problems)
    if not problems:
        yield Finding("start", State.OK, "every process starts with these settings")


def _database(settings: Settings) -> Iterator[Finding]:
    """Connection, schema revision, clock and live workers of the database."""
    shown = _without_password(settings.database_url)
    started = time.perf_counter()
    try:
        database = Database(settings.database_url)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        yield Finding("database", State.PROBLEM, f"{shown}: {first_line(error)}", "set SENSORIUM_DATABASE to a URL")
        return
    try:
        with database.reader() as session:
            database_time = session.scalar(select(now()))
            version = session.connection().dialect.server_version_info or ()
        seconds = time.perf_counter() - started
        dialect = database.engine.dialect.name
        detail = f"{shown}: {dialect} {'.'.join(map(str, version))}, answered in {seconds * 1000:.0f} ms"
        yield Finding("database", State.OK, detail)
        current, newest = migrate.revisions(settings.database_url)
        if current != newest:
            is_older = current is None or current < newest
            advice = "run `sensorium db migrate`" if is_older else "install the newer release"
            yield Finding("schema", State.PROBLEM, f"at revision {current or 'none'}, expected {newest}", advice)
            return
        yield Finding("schema", State.OK, f"at revision {current}")
        yield _clock(database_time)
        with database.reader() as session:
            yield _workers([worker.queue for worker, _ in live_workers.alive(session)], settings)
    except (SQLAlchemyError, OSError) as error:
        advice = "start the server, or correct SENSORIUM_DATABASE"
        yield Finding("database", State.PROBLEM, f"{shown} does not respond: {first_line(error)}", advice)
    finally:
        database.close()


def _clock(database_time: datetime | None) -> Finding:
    skew = abs((datetime.now(UTC) - database_time).total_seconds()) if database_time is not None else 0.0
    if skew > MAX_SKEW_SECONDS:
        detail = f"this host and the database differ by {skew:.1f} s, expected at most {MAX_SKEW_SECONDS:.0f} s"
        return Finding("clock", State.WARNING, detail, "synchronise both with a time server")
    return Finding("clock", State.OK, f"this host and the database differ by {skew:.1f} s")


def _workers(alive: list[str], settings: Settings) -> Finding:
    counts = {queue: alive.count(queue) for queue in QUEUES}
    needed = [queue for queue in QUEUES if queue != "infer" or settings.inference_backend == "celery"]
    detail = "alive: " + ", ".join(f"{count} {queue}" for queue, count in counts.items())
    if missing := [queue for queue in needed if not counts[queue]]:
        advice = f"start `sensorium worker {missing[0]}`, or start all processes with `sensorium serve`"
        return Finding("workers", State.WARNING, detail, advice)
    return Finding("workers", State.OK, detail)


def _settings(settings: Settings) -> Finding:
    """Unknown SENSORIUM_ variables. Processes ignore them, so that a misspelt name has no effect and no error."""
    known = {f"{PREFIX}{name.upper()}" for name in type(settings).model_fields} | {SECRETS_DIR}
    variables = sorted(name for name in os.environ if name.startswith(PREFIX))
    if unknown := [name for name in variables if name not in known | OTHER_VARIABLES]:
        nearest = difflib.get_close_matches(unknown[0], known, 1)
        advice = f"set {nearest[0]} instead, or unset it" if nearest else "unset it"
        return Finding("settings", State.WARNING, f"unknown settings: {', '.join(unknown)}", advice)
    return Finding("settings", State.OK, f"{len(variables)} variables are set")


def _broker(settings: Settings) -> Finding:
    if not settings.broker.startswith("redis"):
        return _writable("broker", settings.queue_folder)
    shown = _without_password(settings.broker_url)
    client = redis.Redis.from_url(
        settings.broker_url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS
    )
    try:
        version = client.info("server")["redis_version"]
    except (redis.RedisError, OSError) as error:
        advice = "start the server, or correct SENSORIUM_BROKER; until then jobs are accepted and start later"
        return Finding("broker", State.PROBLEM, f"{shown} does not respond: {first_line(error)}", advice)
    finally:
        client.close()
    return Finding("broker", State.OK, f"{shown}: Redis {version}")


def _home(settings: Settings) -> Finding:
    writable = _writable("home", settings.home)
    if writable.state != State.OK:
        return writable
    free = shutil.disk_usage(settings.home).free
    detail = f"{settings.home.absolute()}: {free / 2**30:.1f} GiB free"
    if free < MIN_FREE_BYTES:
        return Finding("home", State.WARNING, detail, "free space on the disk, or run `sensorium gc`")
    return Finding("home", State.OK, detail)


def _storage(settings: Settings) -> Finding:
    """Write, read and remove a small file."""
    place = settings.bucket_url or str(settings.artifacts.absolute())
    try:
        store = storage.from_settings(settings)
        with store.writer("doctor") as writer:
            writer.write(os.urandom(64))
            stored = writer.commit()
        store.fetch(stored.project_id, stored.sha256, stored.size_bytes)
        store.remove(stored)
    except StorageFull as error:
        advice = "delete datasets or models, run `sensorium gc`, or free space on that disk"
        return Finding("storage", State.PROBLEM, f"{place}: {error.detail}", advice)
    except SensoriumError as error:
        why = f" ({first_line(error.__cause__)})" if error.__cause__ is not None else ""
        advice = "check SENSORIUM_STORAGE and the SENSORIUM_S3_ settings"
        return Finding("storage", State.PROBLEM, f"{place}: {error.detail}{why}", advice)
    except OSError as error:
        advice = "give the service's user write access, or change SENSORIUM_STORAGE"
        return Finding("storage", State.PROBLEM, f"{place}: {first_line(error)}", advice)
    return Finding("storage", State.OK, f"{place}: a test file was written, read and removed")


def _devices(settings: Settings) -> Finding:
    cards = models.cards()
    names = ", ".join(cards) if cards else f"no GPU; {os.cpu_count()} processors"
    device = "cuda" if cards else "cpu"
    detail = f"{names}; small models compute with {models.explain_examples(device)}"
    if settings.cuda_visible_devices and not cards:
        advice = "install a CUDA build of torch and the driver, or unset CUDA_VISIBLE_DEVICES"
        return Finding("devices", State.PROBLEM, f"CUDA_VISIBLE_DEVICES is set, but {detail}", advice)
    return Finding("devices", State.OK, detail)


def _packages(settings: Settings) -> Finding:
    """Compare the installed packages with the requirements of this release."""
    wrong = []
    for line in importlib.metadata.requires("sensorium") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} is {installed}, expected {requirement.specifier}")
    if wrong:
        return Finding("packages", State.PROBLEM, "; ".join(wrong), "run `make install`")
    own = importlib.metadata.version("sensorium")
    return Finding("packages", State.OK, f"sensorium {own}, Python {platform.python_version()}")


def _writable(name: str, folder: Path) -> Finding:
    place = folder.absolute()
    probe = place / f".doctor-{os.getpid()}"
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        advice = "give the service's user write access, or change SENSORIUM_HOME"
        return Finding(name, State.PROBLEM, f"{place}: {first_line(error)}", advice)
    return Finding(name, State.OK, str(place))


def _without_password(url: str) -> str:
    """A URL without its password. An invalid URL is not shown, because it may contain a password too."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "the configured URL"
