"""Our server beside LitServe, BentoML and MLflow: the same encoder, numbers and load, each server alone in its turn.

wrk asks on the same machine, so its work is part of every figure. The peers are from PyPI, in environments of their
own under var/peers; each answer is compared with our engine's before anything is timed. Ratios are of rounds, in which
all stand minutes apart at most; what is reported is their median. `python -m benchmarks.serving quick` only shows that
everything runs.
"""

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

import models
from benchmarks import load
from benchmarks.load import Load, Target
from benchmarks.peers import running, subjects, venvs
from benchmarks.peers.running import ENCODER, SEQUENCES, NotStarted, Ours
from benchmarks.report import Figure, publish
from tests.servers import redis_binary

QUICK = sys.argv[1:] == ["quick"]
ROUNDS, FEW_ROUNDS = (1, 1) if QUICK else (7, 3)
SECONDS, SECONDS_ALONE, WARM_SECONDS = (1.0, 1.0, 1.0) if QUICK else (6.0, 3.0, 1.0)
CLIENTS, MIDDLE_CLIENTS = 64, 16
ROWS, ROWS_CLIENTS = 256, 8
TOLERANCE = 1e-5

Loads = dict[tuple[str, int], list[Load]]
Start = Callable[[Path, Path], AbstractContextManager[Target | Ours]]
NAMES = ("echo", "local", "litserve", "celery", "bentoml", "mlflow")
SLOW = ("bentoml", "mlflow")  # fewer rounds do for those that have no bar
LITSERVE_WAITS = (0.0, 0.001)


def main() -> None:
    """Measure all of them and print the table."""
    load.check_installed()
    if redis_binary() is None:
        raise SystemExit("redis-server is not installed (Debian: apt-get install redis-server)")
    for peer in ("litserve", "bentoml", "mlflow"):
        venvs.python(peer)
    models.use_threads(1)
    with tempfile.TemporaryDirectory(prefix="sensorium-serving-") as folder:
        home = Path(folder)
        checkpoints = home / "checkpoints"
        checkpoints.mkdir()
        subjects.write(subjects.encoder_config(), checkpoints / ENCODER)
        subjects.write(subjects.sequence_config(), checkpoints / SEQUENCES)
        loads: Loads = defaultdict(list)
        figures = []
        missing = _rounds(home, checkpoints, _starts(home, checkpoints), loads)
        with running.local(home / "more", checkpoints) as ours:
            figures += _tensors(ours, models.load(checkpoints / ENCODER))
            figures += _sequences(ours, models.load(checkpoints / SEQUENCES))
    publish("serving", [*_compared(loads, missing), *figures, *_told(loads)])


def _starts(home: Path, checkpoints: Path) -> dict[str, Start]:
    """How each is started, LitServe with the batch's wait that suits it best on this machine."""
    rates: dict[float, float] = dict.fromkeys(LITSERVE_WAITS, 0)
    for wait in LITSERVE_WAITS * 2:
        with running.litserve(home, checkpoints, wait) as target:
            load.run(target, CLIENTS, WARM_SECONDS)
            rates[wait] = max(rates[wait], load.run(target, CLIENTS, SECONDS_ALONE).rate)
    wait = max(LITSERVE_WAITS, key=rates.__getitem__)
    tried = ", ".join(f"{1e3 * each:g} ms {rate:.0f}/s" for each, rate in rates.items())
    print(f"LitServe's batches wait {1e3 * wait:g} ms: {tried}", flush=True)
    return {
        "echo": lambda at, _: running.echo(at),
        "local": running.local,
        "litserve": lambda at, checkpoints: running.litserve(at, checkpoints, wait),
        "celery": running.celery,
        "bentoml": running.bentoml,
        "mlflow": running.mlflow,
    }


def _rounds(home: Path, checkpoints: Path, starts: Mapping[str, Start], loads: Loads) -> set[str]:
    """Start, check, warm, measure and end each server in every round; returns those that could not be started."""
    predictor = models.load(checkpoints / ENCODER)
    missing: set[str] = set()
    for number in range(ROUNDS):
        names = [name for name in NAMES if number < FEW_ROUNDS or name not in SLOW]
        for name in names[number % len(names) :] + names[: number % len(names)]:
            if name in missing:
                continue
            try:
                with ExitStack() as stack:
                    at = home / f"{number}-{name}"
                    at.mkdir()
                    started = stack.enter_context(starts[name](at, checkpoints))
                    target = started.encode(subjects.values(1)) if isinstance(started, Ours) else started
                    _check(target, predictor)
                    load.run(target, CLIENTS, WARM_SECONDS)
                    for clients, seconds in _loads_of(name):
                        loads[name, clients].append(load.run(target, clients, seconds))
            except NotStarted as error:
                missing.add(name)
                print(f"{name} COULD NOT BE STARTED, and is not measured:\n{error}", flush=True)
                continue
            latest = [(clients, loads[name, clients][-1]) for clients, _ in _loads_of(name)]
            told = "; ".join(f"{clients} at once {it.rate:.0f}/s, {it.median_ms:.3g} ms" for clients, it in latest)
            print(f"round {number + 1}/{ROUNDS} {name}: {told}", flush=True)
    return missing


def _loads_of(name: str) -> Iterator[tuple[int, float]]:
    """Clients at once, and for how long."""
    yield CLIENTS, SECONDS
    if name == "celery":
        yield MIDDLE_CLIENTS, SECONDS
    yield 1, SECONDS_ALONE


def _check(target: Target, predictor: models.Predictor) -> None:
    """End the benchmark where a server's answer is another than our engine's."""
    values = subjects.values(1)
    if target.name == "echo":
        if load.post(target).content.replace(b" ", b"") != target.body.replace(b" ", b""):
            raise SystemExit("the echo answers something else than it was sent")
        return
    _compare(target, predictor, values)
    if target.name != "bentoml":  # its rows have all three
        fewer = {name: array for name, array in values.items() if name != "b"}
        _compare(replace(target, body=subjects.as_json(fewer)), predictor, fewer)


def _compare(target: Target, predictor: models.Predictor, arrays: subjects.Arrays) -> None:
    expected = subjects.predicted(predictor, arrays)
    rows = expected.size // expected.shape[-1]
    found = subjects.answered(load.post(target), rows).reshape(expected.shape)
    if not np.allclose(found, expected, rtol=0, atol=TOLERANCE):
        worst = np.abs(found - expected).max()
        raise SystemExit(f"{target.name} answers other numbers than our engine: {worst:g} apart")


def _tensors(ours: Ours, predictor: models.Predictor) -> list[Figure]:
    """Many rows a request, as JSON and as binary tensors."""
    values = subjects.values(ROWS)
    ways = {"JSON": ours.encode(values), "binary tensors": ours.infer(ENCODER, values)}
    rates: dict[str, list[float]] = defaultdict(list)
    for target in ways.values():
        _compare(target, predictor, values)
        load.run(target, ROWS_CLIENTS, WARM_SECONDS)
    for _ in range(ROUNDS):
        for name, target in ways.items():
            rates[name].append(ROWS * load.run(target, ROWS_CLIENTS, SECONDS_ALONE).rate)
    ratio = _median(b / j for j, b in zip(rates["JSON"], rates["binary tensors"], strict=True))
    asked = f"{ROWS} rows a request, {ROWS_CLIENTS} clients"
    return [
        *(Figure(f"local, {name}, {asked}", statistics.median(rates[name]), "rows/s", None, None) for name in ways),
        Figure("binary tensors over JSON, rows a second", ratio, "", ">= 5", ratio >= 5),
    ]


def _sequences(ours: Ours, predictor: models.Predictor) -> list[Figure]:
    """One sequence after the other, over HTTP and by the engine alone."""
    arrays = subjects.sequences()
    target = ours.infer(SEQUENCES, arrays)
    _compare(target, predictor, arrays)
    load.run(target, 1, WARM_SECONDS)
    served: list[float] = []
    alone: list[float] = []
    for _ in range(ROUNDS):
        alone.append(_alone_ms(predictor, arrays))
        served.append(load.run(target, 1, SECONDS_ALONE).median_ms)
    ratio = _median(http / engine for http, engine in zip(served, alone, strict=True))
    asked = f"MM-VRNN encode, {subjects.STEPS} steps"
    return [
        Figure(f"{asked}, engine alone", statistics.median(alone), "ms", None, None),
        Figure(f"{asked}, local, binary, 1 client", statistics.median(served), "ms", None, None),
        Figure(f"{asked}, local over engine alone", ratio, "", "<= 1.5", ratio <= 1.5),
    ]


def _alone_ms(predictor: models.Predictor, arrays: subjects.Arrays) -> float:
    present = {name: np.ones(array.shape[:2], bool) for name, array in arrays.items()}
    taken = []
    until = time.perf_counter() + SECONDS_ALONE
    while (began := time.perf_counter()) < until:
        predictor.encode(arrays, present)
        taken.append(time.perf_counter() - began)
    return 1e3 * statistics.median(taken)


def _compared(loads: Loads, missing: set[str]) -> list[Figure]:
    """What has a bar, of the servers that could be started."""
    figures = [Figure(f"{name} could be started", 0, "", "1", False) for name in sorted(missing)]

    def ratio(name: str, other: str, clients: int = CLIENTS) -> float:
        pairs = zip(loads[name, clients], loads[other, clients], strict=True)
        return _median(own.rate / theirs.rate for own, theirs in pairs)

    if not missing & {"local", "litserve"}:
        pairs = list(zip(loads["local", CLIENTS], loads["litserve", CLIENTS], strict=True))
        alone = zip(loads["local", 1], loads["litserve", 1], strict=True)
        figures += [
            _least(f"local over LitServe, {CLIENTS} clients, requests a second", ratio("local", "litserve"), 4),
            _most(
                f"local's p99 over LitServe's median, {CLIENTS} clients",
                _median(own.p99_ms / theirs.median_ms for own, theirs in pairs),
                1,
            ),
            _most("local over LitServe, 1 client, median", _median(o.median_ms / t.median_ms for o, t in alone), 0.25),
        ]
    if not missing & {"local", "echo"}:
        figures.append(
            _least(f"local over the echo, {CLIENTS} clients, requests a second", ratio("local", "echo"), 0.4)
        )
    if "celery" not in missing:
        if "litserve" not in missing:
            name = f"celery over LitServe, {CLIENTS} clients, requests a second"
            figures.append(_least(name, ratio("celery", "litserve"), 2))
        own = _median(one.p99_ms / one.median_ms for one in loads["celery", CLIENTS])
        p99 = _median(one.p99_ms for one in loads["celery", MIDDLE_CLIENTS])
        figures += [
            _most(f"celery's p99 over its median, {CLIENTS} clients", own, 2),
            replace(_most(f"celery's p99, {MIDDLE_CLIENTS} clients", p99, 40), unit="ms"),
        ]
    return figures


def _told(loads: Loads) -> list[Figure]:
    """What everybody came to."""
    figures = []
    for name, clients in sorted(loads, key=lambda key: (-key[1], NAMES.index(key[0]))):
        found = loads[name, clients]
        asked = f"{name}, {clients} client{'s' * (clients > 1)}"
        if clients > 1:
            figures.append(Figure(asked, _median(one.rate for one in found), "1/s", None, None))
        figures.append(Figure(f"{asked}, median", _median(one.median_ms for one in found), "ms", None, None))
        figures.append(Figure(f"{asked}, p99", _median(one.p99_ms for one in found), "ms", None, None))
    return figures


def _median(values: Iterator[float]) -> float:
    return statistics.median(values)


def _least(name: str, value: float, bar: float) -> Figure:
    return Figure(name, value, "", f">= {bar:g}", value >= bar)


def _most(name: str, value: float, bar: float) -> Figure:
    return Figure(name, value, "", f"<= {bar:g}", value <= bar)


if __name__ == "__main__":
    main()
