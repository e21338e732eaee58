"""How much slower inference is while an alias moves to another version: p99 of windows of load, one beside the other.

Two API processes over PostgreSQL answer `RATE` requests a second; in every second window the alias moves.
"""

import asyncio
import statistics
import tempfile
from pathlib import Path

from benchmarks.report import Figure, publish
from tests import servers
from tests.e2e.test_hot_swap import VERSIONS, load, move, p99, stack

WINDOW_SECONDS = 5.0


def main() -> None:
    """Measure both places where batches are computed."""
    figures = []
    for backend in ("local", "celery"):
        with tempfile.TemporaryDirectory() as name, servers.postgresql() as database:
            folder = Path(name)
            with (
                servers.redis_server(folder / "redis") as broker,
                stack(backend, database, broker, folder / "home") as served,
            ):
                alias = "/v1/models/small/aliases/production"
                served.first.call("PUT", alias, json={"version": 1})
                asyncio.run(load(served, WINDOW_SECONDS))
                slower, calm_ms = [], []
                for version in range(2, VERSIONS + 1):
                    calm = p99(asyncio.run(load(served, WINDOW_SECONDS)))
                    moving = p99(
                        asyncio.run(load(served, WINDOW_SECONDS, lambda a=alias, v=version: move(served, a, v)))
                    )
                    slower.append(moving / calm)
                    calm_ms.append(1000 * calm)
        ratio = statistics.median(slower)
        figures.append(Figure(f"{backend}: p99 while an alias moves, of p99 before", ratio, "x", "<= 2", ratio <= 2))
        figures.append(Figure(f"{backend}: p99 before", statistics.median(calm_ms), "ms", None, None))
    publish("hot_swap", figures)


if __name__ == "__main__":
    main()
