"""The memory of our API process under 200,000 requests, in default settings but for the limit of requests."""

import statistics
import tempfile
from pathlib import Path

from benchmarks import load
from benchmarks.child import kilobytes
from benchmarks.peers import running, subjects
from benchmarks.peers.running import ENCODER, SEQUENCES
from benchmarks.report import Figure, publish

REQUESTS = 200_000
WARM_REQUESTS = 20_000
CLIENTS = 64
SECONDS = 2
MAX_GROWTH_MB = 10


def main() -> None:
    """Ask, and look at its anonymous memory between one slice of the load and the next."""
    load.check_installed()
    samples: list[tuple[int, int]] = []
    with tempfile.TemporaryDirectory(prefix="sensorium-memory-") as folder:
        checkpoints = Path(folder, "checkpoints")
        checkpoints.mkdir()
        subjects.write(subjects.encoder_config(), checkpoints / ENCODER)
        subjects.write(subjects.sequence_config(), checkpoints / SEQUENCES)
        with running.local(Path(folder, "local"), checkpoints) as ours:
            target, status = ours.encode(subjects.values(1)), Path(f"/proc/{ours.pid}/status")
            load.post(target)
            requests = 0
            while requests < REQUESTS:
                requests += load.run(target, CLIENTS, SECONDS).requests
                if requests >= WARM_REQUESTS:
                    samples.append((requests, kilobytes(status, "RssAnon")))
    counts, sizes = ([float(value) for value in column] for column in zip(*samples, strict=True))
    slope = statistics.linear_regression(counts, sizes).slope * 1000 if len(samples) > 1 else 0.0
    growth = (sizes[-1] - sizes[0]) * 1024 / 1e6
    publish(
        "memory_serving",
        [
            Figure("requests", counts[-1], "", f">= {REQUESTS}", counts[-1] >= REQUESTS),
            Figure(f"anonymous memory after {counts[0]:.0f} requests", sizes[0] * 1024 / 1e6, "MB", None, None),
            Figure("anonymous memory at the end", sizes[-1] * 1024 / 1e6, "MB", None, None),
            Figure("growth in between", growth, "MB", f"< {MAX_GROWTH_MB}", abs(growth) < MAX_GROWTH_MB),
            Figure("slope, by least squares", slope, "KB per 1000", None, None),
        ],
    )


if __name__ == "__main__":
    main()
