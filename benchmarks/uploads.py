"""Latency of single encode requests while other clients upload and download large files.

One client sends the next request as soon as it has its answer. Every load runs between two measurements without load;
the ratio compares the 99th percentile during the load with the mean of those before and after it. All clients and the
disk are on the same machine, so their work is part of every figure. `python -m benchmarks.uploads quick` only shows
that everything runs.
"""

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
from sqlalchemy import select

from benchmarks.load import Target, post
from benchmarks.peers import running, subjects
from benchmarks.peers.running import ENCODER, SEQUENCES, Ours
from benchmarks.report import Figure, publish
from service.access.tables import Project
from service.datasets import operations as datasets
from service.datasets.schemas import DatasetRequest, UploadSource
from service.jobs import operations as jobs
from service.shared import samples, storage
from service.shared.database import Database
from service.shared.samples import ModalitySchema, Samples, Schema
from service.shared.settings import Settings
from tests.service.rows import uploaded

QUICK = sys.argv[1:] == ["quick"]
ROUNDS = 1 if QUICK else 3
CLIENTS = 4
FILE_BYTES = 2**24 if QUICK else 10**9
SECONDS = 1.0 if QUICK else 6.0  # of a measurement without load, and of one during downloads
FORMATS = ("stored", "parquet", "npz", "jsonl")
FEATURES = 64
UPLOADS = "uploads"
MAX_RATIO = 2.0  # of the 99th percentiles during uploads
OK = b"200"


class Phase(NamedTuple):
    """One measurement: the latency of every encode request, and the rate of the other clients together."""

    milliseconds: Sequence[float]
    megabytes_per_second: float = 0.0

    def quantile(self, fraction: float) -> float:
        """A quantile of the latencies, in milliseconds."""
        return float(np.quantile(self.milliseconds, fraction))


def main() -> None:
    """Measure every load several times in turn, and print the table."""
    with tempfile.TemporaryDirectory(prefix="sensorium-uploads-") as name:
        folder = Path(name)
        home, checkpoints, large = folder / "home", folder / "checkpoints", folder / "large.jsonl"
        checkpoints.mkdir()
        subjects.write(subjects.encoder_config(), checkpoints / ENCODER)
        subjects.write(subjects.sequence_config(), checkpoints / SEQUENCES)
        line = b'{"x": [' + b"0.5, " * 200 + b"0.5]}\n"
        with large.open("wb") as file:
            for _ in range(0, FILE_BYTES, 1000 * len(line)):
                file.write(line * 1000)
        with running.local(home, checkpoints) as ours:
            _add_dataset(Settings(home=home))
            publish("uploads", _measure(ours, large))


def _measure(ours: Ours, large: Path) -> list[Figure]:
    target = ours.encode(subjects.values(1))
    post(target)
    content = "/v1/datasets/large/versions/1/content?format="
    loads = {UPLOADS: [["upload", ours.url, ours.key, str(large), str(number)] for number in range(CLIENTS)]}
    for format in FORMATS:
        loads[f"{format} downloads"] = [["download", ours.url, ours.key, content + format, str(SECONDS)]] * CLIENTS
    phases: dict[str, list[Phase]] = defaultdict(list)
    ratios: dict[str, list[float]] = defaultdict(list)
    before = _without_load(target)
    for number in range(ROUNDS):
        for load, clients in loads.items():
            with _transfers(clients) as transfers:
                before = _without_load(target)
                during = _during(target, transfers)
            after = _without_load(target)
            alone = statistics.mean([before.quantile(0.99), after.quantile(0.99)])
            ratios[load].append(during.quantile(0.99) / alone)
            phases[load].append(during)
            phases["no load"].append(after)
            print(
                f"round {number + 1}/{ROUNDS} {load}: p50 {during.quantile(0.5):.2f} ms, "
                f"p99 {during.quantile(0.99):.2f} ms of {len(during.milliseconds)} requests, "
                f"p99 without load {alone:.2f} ms; {during.megabytes_per_second:.0f} MB/s",
                flush=True,
            )
    return [figure for load, found in phases.items() for figure in _figures(load, found, ratios[load])]


def _figures(load: str, phases: Sequence[Phase], ratios: Sequence[float]) -> Iterator[Figure]:
    during = f"{CLIENTS} {load}" if ratios else load
    for name, fraction in (("p50", 0.5), ("p99", 0.99)):
        value = statistics.median(phase.quantile(fraction) for phase in phases)
        yield Figure(f"encode {name}, {during}", value, "ms", None, None)
    if ratios:
        rate, ratio = statistics.median(phase.megabytes_per_second for phase in phases), statistics.median(ratios)
        yield Figure(f"{during}, all together", rate, "MB/s", None, None)
        bar = f"<= {MAX_RATIO:g}" if load == UPLOADS else None
        holds = ratio <= MAX_RATIO if load == UPLOADS else None
        yield Figure(f"encode p99, {during} over no load", ratio, "", bar, holds)


def _without_load(target: Target) -> Phase:
    until = time.monotonic() + SECONDS
    return Phase(_ask(target, lambda: time.monotonic() < until))


def _during(target: Target, transfers: Sequence["subprocess.Popen[str]"]) -> Phase:
    """Start the transfers, and send encode requests until the last one ends."""
    for transfer in transfers:
        assert transfer.stdin is not None  # noqa: S101 it is a pipe
        transfer.stdin.write("start\n")
        transfer.stdin.flush()
    milliseconds = _ask(target, lambda: any(transfer.poll() is None for transfer in transfers))
    moved, seconds = 0, 0.0
    for transfer in transfers:
        out, _ = transfer.communicate()
        if transfer.returncode:
            raise SystemExit(f"a transfer ended with status {transfer.returncode}")
        moved, seconds = moved + int(out.split()[0]), max(seconds, float(out.split()[1]))
    return Phase(milliseconds, moved / seconds / 1e6)


@contextmanager
def _transfers(clients: Sequence[Sequence[str]]) -> Iterator[list["subprocess.Popen[str]"]]:
    """Client processes that wait for their start."""
    command = [sys.executable, "-m", "benchmarks.transfer"]
    processes = [
        subprocess.Popen([*command, *client], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for client in clients
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _ask(target: Target, goes_on: Callable[[], bool]) -> list[float]:
    """Send requests on one connection. Returns the milliseconds that each of them took."""
    url = urlsplit(target.url)
    headers = {"Host": url.netloc, "Content-Type": "application/json", "Content-Length": len(target.body)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers | dict(target.headers)).items())
    request = f"POST {url.path} HTTP/1.1\r\n{lines}\r\n".encode() + target.body
    taken = []
    with socket.create_connection((url.hostname, url.port)) as connection, connection.makefile("rb") as answers:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while goes_on():
            began = time.perf_counter()
            connection.sendall(request)
            status, length = answers.readline(), 0
            while (header := answers.readline()) != b"\r\n":
                if header.lower().startswith(b"content-length:"):
                    length = int(header.partition(b":")[2])
            body = answers.read(length)
            taken.append(1e3 * (time.perf_counter() - began))
            if status.split()[1] != OK:
                raise SystemExit(f"encode answers {status!r}: {body[:1000]!r}")
    return taken


def _add_dataset(settings: Settings) -> None:
    """A ready dataset of FILE_BYTES / 4, as a conversion leaves it."""
    schema = Schema(kind="static", modalities=(ModalitySchema(name="x", shape=(FEATURES,), dtype="float32"),))
    rows = FILE_BYTES // 4 // (4 * FEATURES)
    path = settings.home / "dataset"
    values = np.random.default_rng(0).standard_normal((rows, FEATURES), np.float32)
    with samples.Writer(path) as writer:
        writer.add(Samples(schema, rows, {"x": values}, {"x": np.ones(rows, bool)}, None))
        writer.finish(schema, rows)
    database = Database(settings.database_url)
    with database.reader() as session:
        project_id = session.scalars(select(Project.id)).one()
    stored = storage.from_settings(settings).adopt(project_id, path)
    upload = uploaded(database, project_id)
    with database.writer.begin() as session:
        source = UploadSource(upload=upload)
        datasets.create_version(session, project_id, DatasetRequest(name="large", source=source))
        claim = jobs.claim(session, datasets.QUEUE, "wrk_1", 60)
        assert claim is not None  # noqa: S101 it was queued just now
        datasets.complete(session, claim.job_id, rows, schema, {}, [], stored, None)
        jobs.succeed(session, claim)
    database.close()


if __name__ == "__main__":
    main()
