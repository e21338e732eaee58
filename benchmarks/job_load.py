"""2,000 queued runs, 50 polling clients, claims, and lists behind 100,000 runs: on one machine, on both databases."""

import asyncio
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from benchmarks.api import SECRET_KEY, api, databases
from benchmarks.report import Figure, publish
from service.access import operations as access
from service.events import operations as outbox
from service.jobs import operations as jobs
from service.jobs.tables import Job, JobEvent
from service.runs.selection import Order, Place
from service.runs.tables import Run, RunLatestMetric
from service.shared import events
from service.shared.database import Database, now
from service.shared.events import Resource
from service.shared.signing import Signer
from service.shared.table_base import new_id
from tests.e2e.stack import Caller
from tests.service.rows import ready_dataset

QUEUED = 2000
CLIENTS = 50
SUBMITTERS = 2
CLAIMERS = 4
MANY = 100_000
STREAMS = 200
TURNS = 200
# More than the half second until the next poll, so that the last events arrive.
SETTLING_SECONDS = 2.0
POLL_SECONDS = 0.5
METRICS = ("loss", "kl", "validation_loss", "learning_rate")
SORT = "metric.loss"


def main() -> None:
    """Both databases, the same questions."""
    with databases("load") as both:
        publish("job_load", [figure for name, url, home in both for figure in measure(name, url, home)])


def measure(name: str, url: str, home: Path) -> list[Figure]:
    """Submit while clients poll, claim everything, then list behind many runs."""
    database = Database(url)
    with database.writer.begin() as session:
        project_id = access.create_project(session, "load").id
        _, key = access.create_key(session, project_id, "load")
    ready_dataset(database, project_id)
    with api(url, home) as running:
        caller = Caller(running.address, key)
        submits, polls = _submit_while_polled(caller, spread=True)
        in_step, _ = _submit_while_polled(caller, spread=False)
        claims = _claims_per_second(url)
        _fill(database, project_id)
        lists = {
            "newest": _list(caller, {}),
            "a rare state": _list(caller, {"state": "failed"}),
            "deep page": _list(caller, {"page_token": _deep(database)}),
            "by a metric": _list(caller, {"sort": SORT}),
            "by a metric, deep page": _list(caller, {"sort": SORT, "page_token": _deep_by_metric(database, MANY // 2)}),
            "a metric below a bound": _list(caller, {"filter": "metric.loss<0.5"}),
            "a metric that 0.05 % have": _list(caller, {"filter": "metric.loss<0.0005"}),
        }
        across = _list(caller, {"sort": SORT, "page_token": _deep_by_metric(database, MANY - 1)})
        streamed = _list_while_runs_are_followed(caller, database)
        followed, missed = _list_while_the_project_is_followed(caller, database, project_id)
        refused = running.log.read_text().count("database is locked")
    database.close()
    p99, at_once, polled = _quantile(submits, 0.99), _quantile(in_step, 0.99), _quantile(polls, 0.99)
    figures = [
        Figure(f"{name}: submit p99, {CLIENTS} clients polling", p99 * 1e3, "ms", "< 100", p99 < 0.1),
        Figure(f"{name}: submit p99, the clients all polling at once", at_once * 1e3, "ms", "< 100", at_once < 0.1),
        Figure(f"{name}: submit median", statistics.median(submits) * 1e3, "ms", None, None),
        Figure(f"{name}: poll p99", polled * 1e3, "ms", None, None),
        Figure(f"{name}: claims", claims, "1/s", ">= 50", claims >= 50),
    ]
    for what, seconds in [*lists.items(), (f"newest, {STREAMS} streams of runs open", statistics.median(streamed))]:
        label = f"{name}: list of runs, {what}, {MANY:,} runs, median"
        figures.append(Figure(label, seconds * 1e3, "ms", "< 50", seconds < 0.05))
    # The runs without a value are the oldest: the page asks all others for one.
    label = f"{name}: list of runs, by a metric, from the last value to runs without one, median"
    figures.append(Figure(label, across * 1e3, "ms", None, None))
    readers = f"{STREAMS} readers of the project's events"
    p99 = _quantile(followed, 0.99)
    figures += [
        Figure(f"{name}: list of runs, {readers}, p99", p99 * 1e3, "ms", "< 50", p99 < 0.05),
        Figure(f"{name}: list of runs, {readers}, median", statistics.median(followed) * 1e3, "ms", None, None),
        Figure(f"{name}: events that {readers} missed", missed, "events", "0", missed == 0),
    ]
    figures.append(Figure(f'{name}: "database is locked"', refused, "times", "0", refused == 0))
    return figures


def _submit_while_polled(caller: Caller, spread: bool) -> tuple[list[float], list[float]]:
    """Seconds of every submit and of every poll. The clients that poll are a process of their own.

    spread: each client begins at its own moment of the half second, as clients of different makers do; otherwise all
    of them ask at the same moment, over and over.
    """
    submits: list[float] = []

    def submit() -> None:
        while len(submits) < QUEUED:
            before = time.monotonic()
            caller.submit("d", batch_size=8)
            submits.append(time.monotonic() - before)

    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, ProcessPoolExecutor(1, spawn) as clients, ThreadPoolExecutor(SUBMITTERS) as pool:
        over = manager.Event()
        ids = [caller.submit("d", batch_size=8) for _ in range(CLIENTS)]
        address, headers = str(caller.http.base_url), dict(caller.http.headers)
        polling = clients.submit(_poll, address, headers, ids, spread, over)
        for submitting in [pool.submit(submit) for _ in range(SUBMITTERS)]:
            submitting.result()
        over.set()
        return submits, polling.result()


def _poll(
    address: str, headers: dict[str, str], ids: Sequence[str], spread: bool, over: threading.Event
) -> list[float]:
    """Seconds of every poll; each client polls a run of its own every half second."""
    seconds: list[float] = []

    async def poll(client: httpx.AsyncClient, number: int) -> None:
        await asyncio.sleep(number / len(ids) * POLL_SECONDS if spread else 0)
        while not await asyncio.to_thread(over.is_set):
            before = time.monotonic()
            (await client.get(f"/v1/runs/{ids[number]}")).raise_for_status()
            seconds.append(time.monotonic() - before)
            await asyncio.sleep(POLL_SECONDS)

    async def all_polls() -> None:
        limits = httpx.Limits(max_connections=len(ids))
        async with httpx.AsyncClient(base_url=address, headers=headers, limits=limits, timeout=60) as client:
            await asyncio.gather(*(poll(client, number) for number in range(len(ids))))

    asyncio.run(all_polls())
    return seconds


def _claims_per_second(url: str) -> float:
    """How fast a few workers, each with connections of its own, take all that is queued."""

    def take(worker: int) -> int:
        database, count = Database(url), 0
        while True:
            with database.writer.begin() as session:
                if jobs.claim(session, "train", f"wrk_{worker}", 600) is None:
                    break
            count += 1
        database.close()
        return count

    before = time.monotonic()
    with ThreadPoolExecutor(CLAIMERS) as pool:
        total = sum(pool.map(take, range(CLAIMERS)))
    return total / (time.monotonic() - before)


def _fill(database: Database, project_id: str) -> None:
    """Runs of last year with values of all metrics in any order, one of a thousand of them failed."""
    with database.writer.begin() as session:
        pattern = session.scalars(select(Run).limit(1)).one()
        of_run = {c.name: getattr(pattern, c.name) for c in Run.__table__.columns if c.name not in ("id", "job_id")}
        for start in range(0, MANY, 5000):
            rows = []
            for number in range(start, start + 5000):
                state = "failed" if number % 1000 == 0 else "succeeded"
                rows.append({"id": new_id("job"), "project_id": project_id, "kind": "train", "queue": "train",
                             "state": state, "attempt": 1})  # fmt: skip
            session.execute(insert(Job), rows)
            session.execute(insert(Run), [{**of_run, "id": new_id("run"), "job_id": row["id"]} for row in rows])
            for name in METRICS:
                same = {"project_id": project_id, "name": name}
                numbered = enumerate(rows, start)
                values = [{**same, "job_id": row["id"], "value": n * 7919 % MANY / MANY} for n, row in numbered]
                session.execute(insert(RunLatestMetric), values)
    if database.engine.dialect.name == "postgresql":
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def _list(caller: Caller, parameters: dict[str, str]) -> float:
    """Median seconds of a page of 50."""
    seconds = []
    for _ in range(30):
        before = time.monotonic()
        caller.call("GET", "/v1/runs", params=parameters)
        seconds.append(time.monotonic() - before)
    return statistics.median(seconds)


def _deep(database: Database) -> str:
    """The token of a page in the middle of the list."""
    with database.reader() as session:
        job_id = session.scalars(select(Run.job_id).order_by(Run.job_id).offset(MANY // 2).limit(1)).one()
    return Signer([SECRET_KEY]).sign("page of /v1/runs", job_id)


def _deep_by_metric(database: Database, number: int) -> str:
    """The token of the page behind the n-th run in the order of a metric."""
    key = (RunLatestMetric.value, RunLatestMetric.job_id)
    with database.reader() as session:
        nth = select(*key).where(RunLatestMetric.name == "loss").order_by(*key).offset(number).limit(1)
        value, job_id = session.execute(nth).one()
    order = Order("loss", descending=False)
    return Signer([SECRET_KEY]).sign(f"page of /v1/runs by {SORT}", Place(job_id, value).key(order))


def _list_while_runs_are_followed(caller: Caller, database: Database) -> list[float]:
    """Seconds of lists while clients follow running jobs' events, each a run of its own."""
    with database.reader() as session:
        followed = session.execute(
            select(Run.id, Job.id).join(Job, Job.id == Run.job_id).where(Job.state == "running").limit(STREAMS)
        ).all()

    def happen(session: Session, turn: int) -> None:
        session.add(JobEvent(job_id=followed[turn % len(followed)][1], attempt=1, level="info", type="x", message="",
                             data={}, created_at=now()))  # fmt: skip

    paths = [f"/v1/runs/{run_id}/events" for run_id, _ in followed]
    return _list_while_streams_are_open(caller, database, paths, happen)[0]


def _list_while_the_project_is_followed(caller: Caller, database: Database, project_id: str) -> tuple[list[float], int]:
    """Seconds of lists while clients follow all events of a project, and the number of events that they missed."""
    with database.reader() as session:
        newest = outbox.newest(session, project_id)

    def happen(session: Session, turn: int) -> None:
        events.record(session, project_id, "run.changed", Resource("run", f"run_{turn}"), {"changed": ["tags"]})

    paths = [f"/v1/events?after={newest}"] * STREAMS
    seconds, heard = _list_while_streams_are_open(caller, database, paths, happen)
    return seconds, sum(TURNS - count for count in heard)


def _list_while_streams_are_open(
    caller: Caller, database: Database, paths: Sequence[str], happen: Callable[[Session, int], None]
) -> tuple[list[float], list[int]]:
    """Seconds of lists while there is a stream of each path, and how many events each stream got.

    happen: writes one event; each list follows one. The clients that follow are a process of their own, so that the
    lists do not wait for them.
    """
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, ProcessPoolExecutor(1, spawn) as clients:
        opened, over = manager.Semaphore(0), manager.Event()
        address, headers = str(caller.http.base_url), dict(caller.http.headers)
        following = clients.submit(_follow, address, headers, paths, opened, over)
        for _ in paths:
            if not opened.acquire(timeout=60):
                raise TimeoutError("the streams did not open within 60 s")
        seconds = []
        for turn in range(TURNS):
            with database.writer.begin() as session:
                happen(session, turn)
            before = time.monotonic()
            caller.call("GET", "/v1/runs")
            seconds.append(time.monotonic() - before)
            time.sleep(0.05)
        time.sleep(SETTLING_SECONDS)
        over.set()
        return seconds, following.result()


def _follow(
    address: str, headers: dict[str, str], paths: Sequence[str], opened: threading.Semaphore, over: threading.Event
) -> list[int]:
    """The number of events that a stream of each path got until it was over."""
    heard = [0] * len(paths)

    async def follow(client: httpx.AsyncClient, number: int) -> None:
        async with client.stream("GET", paths[number], headers={"Accept": "text/event-stream"}) as stream:
            await asyncio.to_thread(opened.release)
            async for line in stream.aiter_lines():
                heard[number] += line.startswith("id: ")

    async def follow_all() -> None:
        limits = httpx.Limits(max_connections=len(paths))
        async with httpx.AsyncClient(base_url=address, headers=headers, limits=limits, timeout=60) as client:
            streams = [asyncio.create_task(follow(client, number)) for number in range(len(paths))]
            await asyncio.to_thread(over.wait)
            for stream in streams:
                stream.cancel()
            await asyncio.gather(*streams, return_exceptions=True)

    asyncio.run(follow_all())
    return heard


def _quantile(seconds: Sequence[float], part: float) -> float:
    return sorted(seconds)[int(part * (len(seconds) - 1))]


if __name__ == "__main__":
    main()
