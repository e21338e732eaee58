"""Encoding a sequence: how many times faster our model is than a textbook's loop, on one processor core.

First a check that both compute the same; then they run in turns.
"""

import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.peers import loops
from benchmarks.peers.loops import REALISTIC, SMALL, Case
from benchmarks.report import Figure, publish
from models.batch import Batch
from models.mmvrnn import MMVRNN
from models.ops import library

SECONDS = 4.0
MIN_ROUNDS = 15


def main() -> None:
    """Measure one sequence and 64."""
    torch.set_num_threads(1)
    print(f"kernels: {library.path() or library.NOT_BUILT}")
    with torch.inference_mode():
        publish(
            "encode_latency",
            [*encode(SMALL, 1, 9.0), *encode(SMALL, 64), *encode(REALISTIC, 1), *encode(REALISTIC, 64)],
        )


def encode(case: Case, rows: int, minimum: float | None = None) -> list[Figure]:
    """Milliseconds of both, and how many times faster ours is."""
    model, peer = loops.sequence_pair(case)
    model.eval()
    batch, _ = loops.sequences(case._replace(rows=rows))

    def theirs() -> tuple[torch.Tensor, torch.Tensor]:
        return peer.encode(batch.values, batch.present)

    posterior, (mean, deviation) = model.encode(batch), theirs()
    ours = {"mean": posterior.mean, "standard deviation": posterior.standard_deviation}
    loops.check_equal(f"{case.name}, {rows}", ours, {"mean": mean, "standard deviation": deviation})
    fast, slow = _medians(_encoding(model, batch), theirs)
    what = f"{case.name}, {'1 sequence' if rows == 1 else f'{rows} sequences'}"
    holds = None if minimum is None else slow / fast >= minimum
    return [
        Figure(f"{what}: ours", fast, "ms", None, None),
        Figure(f"{what}: textbook", slow, "ms", None, None),
        Figure(f"{what}: times faster", slow / fast, "times", None if minimum is None else f">= {minimum:g}", holds),
    ]


def _encoding(model: MMVRNN, batch: Batch) -> Callable[[], object]:
    return lambda: model.encode(batch)


def _medians(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds, in turns for some seconds."""
    times: tuple[list[float], list[float]] = ([], [])
    until = time.monotonic() + SECONDS
    while time.monotonic() < until or len(times[0]) < MIN_ROUNDS:
        for call, found in zip((ours, theirs), times, strict=True):
            begun = time.perf_counter()
            call()
            found.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(times[0]), statistics.median(times[1])


if __name__ == "__main__":
    main()
