"""What an installation needs and whether it has it: each finding with what to do about it."""

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

LEAST_FREE_BYTES = 2 * 1024**3
# Leases and expiries go by the database's clock; logs and tokens by the host's.
MOST_SKEW_SECONDS = 5.0
QUEUES = ("train", "data", "infer")
CONNECT_SECONDS = 5
# Said to clients and to the tests, not to the service.
OF_OTHERS = {f"{PREFIX}URL", f"{PREFIX}API_KEY", f"{PREFIX}REQUIRE_SERVICES"}


class State(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """One thing that was looked at. advice: what to do, empty where nothing is to be done."""

    name: str
    state: State
    detail: str
    advice: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything, one thing after the other; what fails does not keep the rest from being looked at."""
    yield from _start(settings)
    yield from _database(settings)
    for check in (_settings, _broker, _home, _storage, _devices, _packages):
        yield check(settings)


def _start(settings: Settings) -> Iterator[Finding]:
    """What every process, or the API alone, refuses to start with, in the words in which it does."""
    found = startup_checks.faults(settings, signs=True)
    yield from (Finding("start", State.PROBLEM, fault) for fault in found)
    if not found:
        yield Finding("start", State.OK, "every process takes these settings")


def _database(settings: Settings) -> Iterator[Finding]:
    """Whether it answers, its schema, its clock, and the workers that have written to it."""
    shown = _shown(settings.database_url)
    started = time.perf_counter()
    try:
        database = Database(settings.database_url)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        yield Finding("database", State.PROBLEM, f"{shown}: {first_line(error)}", "set SENSORIUM_DATABASE to a URL")
        return
    try:
        with database.reader() as session:
            there = session.scalar(select(now()))
            version = session.connection().dialect.server_version_info or ()
        seconds = time.perf_counter() - started
        dialect = database.engine.dialect.name
        words = f"{shown}: {dialect} {'.'.join(map(str, version))}, answered in {seconds * 1000:.0f} ms"
        yield Finding("database", State.OK, words)
        found, newest = migrate.revisions(settings.database_url)
        if found != newest:
            advice = "run `sensorium db migrate`" if found is None or found < newest else "install the newer release"
            yield Finding("schema", State.PROBLEM, f"at revision {found or 'none'}, expected {newest}", advice)
            return
        yield Finding("schema", State.OK, f"at revision {found}")
        yield _clock(there)
        with database.reader() as session:
            yield _workers([worker.queue for worker, _ in live_workers.alive(session)], settings)
    except (SQLAlchemyError, OSError) as error:
        advice = "start the server, or correct SENSORIUM_DATABASE"
        yield Finding("database", State.PROBLEM, f"{shown} does not answer: {first_line(error)}", advice)
    finally:
        database.close()


def _clock(there: datetime | None) -> Finding:
    skew = abs((datetime.now(UTC) - there).total_seconds()) if there is not None else 0.0
    if skew > MOST_SKEW_SECONDS:
        detail = f"this host and the database differ by {skew:.1f} s"
        return Finding("clock", State.WARNING, detail, "let both follow a time server")
    return Finding("clock", State.OK, f"{skew:.1f} s from the database's")


def _workers(alive: list[str], settings: Settings) -> Finding:
    counts = {queue: alive.count(queue) for queue in QUEUES}
    wanted = [queue for queue in QUEUES if queue != "infer" or settings.inference_backend == "celery"]
    words = ", ".join(f"{count} {queue}" for queue, count in counts.items())
    if missing := [queue for queue in wanted if not counts[queue]]:
        advice = f"start `sensorium worker {missing[0]}`, or `sensorium serve` for everything at once"
        return Finding("workers", State.WARNING, f"alive: {words}", advice)
    return Finding("workers", State.OK, f"alive: {words}")


def _settings(settings: Settings) -> Finding:
    """Whether every variable that looks like ours is: a name that is misspelt sets nothing, and nobody says so."""
    known = {f"{PREFIX}{name.upper()}" for name in type(settings).model_fields} | {SECRETS_DIR}
    given = sorted(name for name in os.environ if name.startswith(PREFIX))
    if unknown := [name for name in given if name not in known | OF_OTHERS]:
        nearest = difflib.get_close_matches(unknown[0], known, 1)
        advice = f"set {nearest[0]} instead, or unset it" if nearest else "unset it"
        return Finding("settings", State.WARNING, f"no settings of ours: {', '.join(unknown)}", advice)
    return Finding("settings", State.OK, f"{len(given)} variables are set")


def _broker(settings: Settings) -> Finding:
    if not settings.broker.startswith("redis"):
        return _writable("broker", settings.queue_folder)
    shown = _shown(settings.broker_url)
    client = redis.Redis.from_url(
        settings.broker_url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS
    )
    try:
        version = client.info("server")["redis_version"]
    except (redis.RedisError, OSError) as error:
        advice = "start the server, or correct SENSORIUM_BROKER; until then jobs are accepted and wait longer"
        return Finding("broker", State.PROBLEM, f"{shown} does not answer: {first_line(error)}", advice)
    finally:
        client.close()
    return Finding("broker", State.OK, f"{shown}: Redis {version}")


def _home(settings: Settings) -> Finding:
    found = _writable("home", settings.home)
    if found.state != State.OK:
        return found
    free = shutil.disk_usage(settings.home).free
    detail = f"{settings.home.absolute()}: {free / 2**30:.1f} GiB free"
    if free < LEAST_FREE_BYTES:
        return Finding("home", State.WARNING, detail, "free some space, or run `sensorium gc`")
    return Finding("home", State.OK, detail)


def _storage(settings: Settings) -> Finding:
    """Whether a small file can be written, read again and removed."""
    place = settings.bucket_url or str(settings.artifacts.absolute())
    try:
        store = storage.from_settings(settings)
        with store.writer("doctor") as writer:
            writer.write(os.urandom(64))
            stored = writer.commit()
        store.fetch(stored.project_id, stored.sha256, stored.size_bytes)
        store.remove(stored)
    except StorageFull as error:
        advice = "delete what is not needed, run `sensorium gc`, or free space on that disk"
        return Finding("storage", State.PROBLEM, f"{place}: {error.detail}", advice)
    except SensoriumError as error:
        return Finding("storage", State.PROBLEM, f"{place}: {error.detail}", "look at SENSORIUM_STORAGE and its keys")
    except OSError as error:
        advice = "let the service's user write there, or set SENSORIUM_STORAGE"
        return Finding("storage", State.PROBLEM, f"{place}: {first_line(error)}", advice)
    return Finding("storage", State.OK, f"{place}: written, read and removed")


def _devices(settings: Settings) -> Finding:
    cards = models.cards()
    shown = ", ".join(cards) if cards else f"no card; {os.cpu_count()} processors"
    device = "cuda" if cards else "cpu"
    detail = f"{shown}; small models compute with {models.explain_examples(device)}"
    if settings.cuda_visible_devices and not cards:
        advice = "install a CUDA build of torch and the driver, or unset CUDA_VISIBLE_DEVICES"
        return Finding("devices", State.PROBLEM, f"CUDA_VISIBLE_DEVICES is set, but {detail}", advice)
    return Finding("devices", State.OK, detail)


def _packages(settings: Settings) -> Finding:
    """Whether what is installed is what this release asks for."""
    wrong = []
    for line in importlib.metadata.requires("sensorium") or []:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            wrong.append(f"{wanted.name} is {found}, expected {wanted.specifier}")
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
        advice = "let the service's user write there, or set SENSORIUM_HOME"
        return Finding(name, State.PROBLEM, f"{place}: {first_line(error)}", advice)
    return Finding(name, State.OK, str(place))


def _shown(url: str) -> str:
    """A URL without its password; of what is none, nothing: it may be one all the same."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "what is set"
