"""How fast a gigabyte comes in, how fast batches come out of it, and how fast many datasets are listed."""

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import insert, text

from benchmarks import child
from benchmarks.api import api, databases
from benchmarks.report import Figure, publish
from models.training import data
from service.access import operations as access
from service.datasets.tables import Dataset, DatasetVersion
from service.jobs.tables import Job
from service.shared import migrate, samples
from service.shared.database import Database
from service.shared.table_base import new_id
from tests.e2e.stack import Caller
from worker.trainer import dataset_of

BYTES = 10**9
AUDIO, IMAGE = 128, (16, 16)
ROWS = BYTES // (4 * (AUDIO + math.prod(IMAGE)) + 8)
STEPS, FEATURES = 200, 32
SEQUENCES = BYTES // (4 * STEPS * FEATURES)
PIECE_ROWS = 50_000
BATCH_ROWS = 256
MANY = 100_000
CORE = {0}
UPLOADED = 2 * 10**9

MIN_RATE = 150.0
MAX_ANONYMOUS_MB = 600.0
MIN_BATCH_RATE = 1.0
MAX_LIST_MS = 50.0
MAX_RESIDENT_MB = 300.0


def main() -> None:
    """Convert each file on one core, read batches from one result, list."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name, format, write in FILES:
            path = home / "upload"
            write(path)
            spec = {"source": {"file": str(path), "format": format}, "declaration": {}, "result": str(home / "stored")}
            ran = child.run("worker.ingest.converter", spec, CORE)
            rate, peak = path.stat().st_size / 1e6 / ran.seconds, ran.peak_anonymous_bytes / 1e6
            figures += [
                Figure(f"{name}: file", path.stat().st_size / 1e6, "MB", None, None),
                Figure(f"{name}: converted", rate, "MB/s", f">= {MIN_RATE:g}", rate >= MIN_RATE),
                Figure(f"{name}: peak anonymous memory", peak, "MB", f"<= {MAX_ANONYMOUS_MB:g}",
                       peak <= MAX_ANONYMOUS_MB),
            ]  # fmt: skip
            rate = _batches(home / "stored")
            figures.append(
                Figure(f"{name}: batches of {BATCH_ROWS} random rows, warm", rate, "GB/s", f">= {MIN_BATCH_RATE:g}",
                       rate >= MIN_BATCH_RATE)
            )  # fmt: skip
    resident = _upload() / 1e6
    figures.append(
        Figure(f"API at most, while {UPLOADED / 1e9:g} GB are uploaded", resident, "MB", f"< {MAX_RESIDENT_MB:g}",
               resident < MAX_RESIDENT_MB)
    )  # fmt: skip
    for kind, seconds in _lists():
        milliseconds = seconds * 1e3
        figures.append(
            Figure(f"{kind}: GET /v1/datasets, {MANY:,} datasets, median", milliseconds, "ms", f"< {MAX_LIST_MS:g}",
                   milliseconds < MAX_LIST_MS)
        )  # fmt: skip
    publish("ingest", figures)


def _pieces() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Audio, image and label of some rows after the others."""
    generator = np.random.default_rng(0)
    for start in range(0, ROWS, PIECE_ROWS):
        rows = min(PIECE_ROWS, ROWS - start)
        yield (
            generator.standard_normal((rows, AUDIO), np.float32),
            generator.standard_normal((rows, *IMAGE), np.float32),
            generator.integers(0, 10, rows),
        )


def write_npz(path: Path) -> None:
    """Two modalities of numbers and one of categories; a tenth of the images is missing."""
    audio, image, label = (np.concatenate(arrays) for arrays in zip(*_pieces(), strict=True))
    arrays: dict[str, Any] = {"audio": audio, "image": image, "label": label}
    _save(path, arrays | {"image.present": np.arange(ROWS) % 10 > 0})


def write_parquet(path: Path) -> None:
    """The same, as Parquet with the library's own compression."""
    schema = pa.schema(
        [
            ("audio", pa.list_(pa.float32(), AUDIO)),
            ("image", pa.list_(pa.list_(pa.float32(), IMAGE[1]), IMAGE[0])),
            ("label", pa.int64()),
        ]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for audio, image, label in _pieces():
            missing = pa.array(np.arange(len(label)) % 10 == 0)
            rows = pa.FixedSizeListArray.from_arrays(pa.array(image.reshape(-1)), IMAGE[1])
            columns = [
                pa.FixedSizeListArray.from_arrays(pa.array(audio.reshape(-1)), AUDIO),
                pa.FixedSizeListArray.from_arrays(rows, IMAGE[0], mask=missing),
                pa.array(label),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def write_sequences(path: Path) -> None:
    """Padded sequences of different lengths."""
    generator = np.random.default_rng(0)
    values = generator.standard_normal((SEQUENCES, STEPS, FEATURES), np.float32)
    _save(path, {"x": values, "x.lengths": generator.integers(STEPS // 2, STEPS + 1, SEQUENCES)})


def _save(path: Path, arrays: dict[str, Any]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)


FILES: list[tuple[str, str, Callable[[Path], None]]] = [
    ("npz", "npz", write_npz),
    ("npz, sequences", "npz", write_sequences),
    ("Parquet", "parquet", write_parquet),
]


def _batches(path: Path) -> float:
    """GB of values a second, in random batches, the file in the page cache; the median of five passes."""
    stored = dataset_of(samples.open(path))
    rates = []
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(stored.rows)[: 400 * BATCH_ROWS]
        before, size = time.perf_counter(), 0
        for start in range(0, len(order), BATCH_ROWS):
            batch = data.batch_of(stored, np.sort(order[start : start + BATCH_ROWS]))
            size += sum(value.numel() * value.element_size() for value in batch.values.values())
        rates.append(size / 1e9 / (time.perf_counter() - before))
    return statistics.median(rates)


def _upload() -> int:
    """The most resident memory of an API process while a file comes in that it must keep."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        url = f"sqlite:///{folder}/upload.db"
        migrate.upgrade(url)
        database = Database(url)
        with database.writer.begin() as session:
            _, key = access.create_key(session, access.create_project(session, "upload").id, "upload")
        database.close()
        with api(url, home, {"SENSORIUM_UPLOAD_BYTES": str(2 * UPLOADED)}) as running:
            memory = child.Memory(running.process.pid)
            memory.start()
            caller = Caller(running.address, key)
            caller.http.timeout = 300
            answer = caller.call("POST", "/v1/uploads", content=_lines(UPLOADED))
            caller.http.close()
            memory.over.set()
            memory.join()
    if answer["size_bytes"] < UPLOADED:
        raise SystemExit(f"{answer['size_bytes']} bytes were kept, {UPLOADED} were sent")
    return memory.peak_bytes


def _lines(size: int) -> Iterator[bytes]:
    """A file of JSON Lines, a megabyte at a time."""
    piece = b'{"x": [1, 2, 3, 4, 5]}\n' * 45_000
    for _ in range(-(-size // len(piece))):
        yield piece


def _lists() -> Iterator[tuple[str, float]]:
    """Median seconds of a page of datasets behind many, on each database."""
    with databases("listing") as both:
        for kind, url, home in both:
            database = Database(url)
            with database.writer.begin() as session:
                project_id = access.create_project(session, "listing").id
                _, key = access.create_key(session, project_id, "listing")
            _fill(database, project_id)
            with api(url, home) as running:
                caller, seconds = Caller(running.address, key), []
                for _ in range(30):
                    before = time.monotonic()
                    caller.call("GET", "/v1/datasets")
                    seconds.append(time.monotonic() - before)
                caller.http.close()
            database.close()
            yield kind, statistics.median(seconds)


def _fill(database: Database, project_id: str) -> None:
    for start in range(0, MANY, 5000):
        numbers = range(start, start + 5000)
        jobs = [{"id": new_id("job"), "project_id": project_id, "kind": "convert", "queue": "data",
                 "state": "succeeded"} for _ in numbers]  # fmt: skip
        datasets = [{"id": new_id("dat"), "project_id": project_id, "name": f"d{number}"} for number in numbers]
        versions = [
            {"id": new_id("dsv"), "dataset_id": dataset["id"], "job_id": job["id"], "version": 1, "source": {},
             "declaration": {}}
            for dataset, job in zip(datasets, jobs, strict=True)
        ]  # fmt: skip
        with database.writer.begin() as session:
            for table, rows in ((Job, jobs), (Dataset, datasets), (DatasetVersion, versions)):
                session.execute(insert(table), rows)
    if database.engine.dialect.name == "postgresql":
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))


if __name__ == "__main__":
    main()
