"""Which requests share a batch, and that each is answered as if alone."""

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.architectures import build
from models.config import MMVAEConfig, MMVRNNConfig, ModalityConfig
from models.io import checkpoint
from service.inference.batcher import MAX_BATCH_NUMBERS, Answered, Batcher
from service.inference.engine import Engine
from service.inference.local_backend import LocalBackend
from service.inference.queries import Computation, Config, Loadable, Tree, Version
from service.inference.rows import Rows, merged
from service.shared.errors import TimedOut, Unavailable
from service.shared.storage import FolderStorage

A = ModalityConfig(name="a", shape=(2,), likelihood="gaussian")
B = ModalityConfig(name="b", categories=3, likelihood="categorical")
STATIC = MMVAEConfig(modalities=(A, B), latent_features=3)
SEQUENCE = MMVRNNConfig(modalities=(A, B), latent_features=3)


def version(tmp_path: Path, config: Config) -> tuple[Engine, Version]:
    store = FolderStorage(tmp_path / "store")
    torch.manual_seed(0)
    checkpoint.save(build(config), tmp_path / "checkpoint", {})
    stored = store.adopt("prj_a", tmp_path / "checkpoint")
    return Engine(store, 2**30, 1), Version("mdv_1", "prj_a", "m", 1, stored.sha256, stored.size_bytes, config)


def static(count: int, seed: int, *, b: bool) -> Rows:
    generator = np.random.default_rng(seed)
    values: dict[str, Any] = {"a": generator.normal(size=(count, 2)).astype(np.float32)}
    if b:
        values["b"] = generator.integers(0, 3, count)
    return Rows(count, values, {name: np.ones(count, bool) for name in values}, None)


def sequences(lengths: list[int], seed: int, *, b: bool) -> Rows:
    generator = np.random.default_rng(seed)
    shape = len(lengths), max(lengths)
    values: dict[str, Any] = {"a": generator.normal(size=(*shape, 2)).astype(np.float32)}
    if b:
        values["b"] = generator.integers(0, 3, shape)
    inside = np.arange(shape[1]) < np.array(lengths)[:, None]
    return Rows(len(lengths), values, dict.fromkeys(values, inside), np.array(lengths))


class Slow(Engine):
    """An engine that computes once `go` is set, and records the rows of each batch."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.go = threading.Event()
        self.batches: list[int] = []
        self.fails: Callable[[Rows], bool] = lambda rows: False

    def holds(self, version: Loadable) -> bool:
        return True

    def answer(self, computation: Computation, rows: Rows, state: Any = None) -> Tree:
        self.batches.append(rows.count)
        assert self.go.wait(60)
        if self.fails(rows):
            raise ZeroDivisionError
        return self._engine.answer(computation, rows, state)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


async def begun(slow: Slow, asking: Iterable[Coroutine[Any, Any, Answered]]) -> list[asyncio.Task[Answered]]:
    """The requests: the engine computes the first one when the others arrive, and all of them wait."""
    tasks = []
    for one in asking:
        tasks.append(asyncio.create_task(one))
        if len(tasks) == 1:
            await at_work(slow)
    await asked()
    return tasks


async def at_work(slow: Slow) -> None:
    """Wait until the engine has been given its first batch."""
    while not slow.batches:
        await asyncio.sleep(0.001)


async def asked() -> None:
    """Run all created tasks until each waits for something outside of the event loop."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_requests_that_arrive_together_share_the_first_batch(tmp_path: Path) -> None:
    engine, served = version(tmp_path, STATIC)
    slow = Slow(engine)
    slow.go.set()
    batcher = Batcher(LocalBackend(slow), 100, 1000, 10_000)

    async def ask() -> list[Answered]:
        return await asyncio.gather(
            *(batcher.answer(Computation(served, "encode"), static(1, n, b=False)) for n in range(5))
        )

    assert [answered.batch_rows for answered in run(ask())] == [5] * 5
    assert slow.batches == [5]


def test_a_short_batch_is_computed_in_the_event_loop(tmp_path: Path) -> None:
    engine, served = version(tmp_path, STATIC)
    threads = []

    class Watched(Slow):
        def answer(self, computation: Computation, rows: Rows, state: Any = None) -> Tree:
            threads.append(threading.current_thread() is threading.main_thread())
            return super().answer(computation, rows, state)

    slow = Watched(engine)
    slow.go.set()
    backend = LocalBackend(slow)

    async def ask(rows: Rows, seconds: float) -> None:
        backend.remember(Computation(served, "encode"), [static(1, 0, b=False)], seconds)
        await backend.compute(Computation(served, "encode"), [rows], None, math.inf)

    run(ask(static(1, 0, b=False), 0.0005))
    run(ask(static(1, 0, b=False), 0.5))
    run(ask(static(500, 0, b=False), 0.0005))
    assert threads == [True, False, False]


@pytest.mark.parametrize("config", [STATIC, SEQUENCE], ids=["static", "sequence"])
def test_waiting_requests_share_a_batch_and_get_the_same_answers_as_alone(tmp_path: Path, config: Config) -> None:
    engine, served = version(tmp_path, config)
    slow = Slow(engine)
    batcher = Batcher(LocalBackend(slow), 100, 1000, 10_000)
    make = static if config is STATIC else lambda n, seed, b: sequences([n, 1, n + 2], seed, b=b)
    parts = [make(n + 1, n, b=bool(n % 2)) for n in range(6)]
    computation = Computation(served, "reconstruct", {"targets": ["a", "b"], "n_samples": 3, "seed": 5})

    async def ask() -> list[Answered]:
        asking = await begun(slow, (batcher.answer(computation, part) for part in parts))
        slow.go.set()
        return await asyncio.gather(*asking)

    answers = run(ask())
    assert slow.batches == [parts[0].count, sum(part.count for part in parts[1:])]
    for part, answered in zip(parts, answers, strict=True):
        alone = engine.answer(computation, part)
        steps = slice(None) if part.lengths is None else slice(part.lengths.max())
        for target, outputs in alone.items():
            for name, expected in outputs.items():
                found = answered.tree[target][name]
                found = found if part.lengths is None else found[:, steps]
                inside = np.ones(part.count, bool) if part.lengths is None else part.present["a"]
                np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-4, atol=1e-5)


def test_different_computations_do_not_share_a_batch(tmp_path: Path) -> None:
    engine, served = version(tmp_path, STATIC)
    slow = Slow(engine)
    batcher = Batcher(LocalBackend(slow), 100, 1000, 10_000)
    rows = static(2, 0, b=True)

    async def ask() -> None:
        computations = [Computation(served, "score", {"n_samples": n % 2, "seed": 0}) for n in range(5)]
        asking = await begun(slow, (batcher.answer(computation, rows) for computation in computations))
        slow.go.set()
        await asyncio.gather(*asking)

    run(ask())
    assert slow.batches == [2, 4, 4]


def test_a_batch_keeps_the_limit_of_rows(tmp_path: Path) -> None:
    engine, served = version(tmp_path, STATIC)
    slow = Slow(engine)
    batcher = Batcher(LocalBackend(slow), 100, 5, 10_000)

    async def ask() -> None:
        computation = Computation(served, "encode")
        asking = await begun(slow, (batcher.answer(computation, static(2, n, b=False)) for n in range(6)))
        slow.go.set()
        await asyncio.gather(*asking)

    run(ask())
    assert slow.batches == [2, 4, 4, 2]


def test_a_bad_request_fails_alone(tmp_path: Path) -> None:
    engine, served = version(tmp_path, STATIC)
    slow = Slow(engine)
    slow.fails = lambda rows: bool((rows.values["a"] == 7).any())
    batcher = Batcher(LocalBackend(slow), 100, 1000, 10_000)
    bad = Rows(1, {"a": np.full((1, 2), 7, np.float32)}, {"a": np.array([True])}, None)

    async def ask() -> list[Any]:
        parts = [static(1, 0, b=False), static(1, 1, b=False), bad, static(1, 2, b=False)]
        asking = await begun(slow, (batcher.answer(Computation(served, "encode"), part) for part in parts))
        slow.go.set()
        return await asyncio.gather(*asking, return_exceptions=True)

    found = run(ask())
    assert [type(answer) for answer in found] == [Answered, Answered, ZeroDivisionError, Answered]


def test_requests_that_timed_out_or_were_cancelled_or_whose_client_is_gone_are_not_computed(tmp_path: Path) -> None:
    engine, served = version(tmp_path, STATIC)
    slow = Slow(engine)
    batcher = Batcher(LocalBackend(slow), 100, 1000, 10_000)
    rows = static(1, 0, b=False)

    async def ask() -> None:
        computation = Computation(served, "encode")
        first = asyncio.create_task(batcher.answer(computation, rows))
        await at_work(slow)
        with pytest.raises(TimedOut):  # the engine still computes
            await batcher.answer(computation, rows, timeout_seconds=0.1)
        cancelled = asyncio.create_task(batcher.answer(computation, rows))
        gone = asyncio.create_task(batcher.answer(computation, rows, is_gone=lambda: True))
        await asked()
        cancelled.cancel()
        await asyncio.sleep(0)
        slow.go.set()
        await first
        with pytest.raises(Unavailable, match="disconnected"):
            await gone
        await batcher.answer(computation, rows)

    run(ask())
    assert slow.batches == [1, 1]


def test_a_timed_out_request_leaves_the_queue(tmp_path: Path) -> None:
    engine, served = version(tmp_path, STATIC)
    slow = Slow(engine)
    batcher = Batcher(LocalBackend(slow), 2, 1, 10_000)
    rows = static(1, 0, b=False)

    async def ask() -> Answered:
        computation = Computation(served, "encode")
        first = asyncio.create_task(batcher.answer(computation, rows))
        await at_work(slow)
        for _ in range(5):  # each leaves the queue
            with pytest.raises(TimedOut):
                await batcher.answer(computation, rows, timeout_seconds=0.02)
        last = asyncio.create_task(batcher.answer(computation, rows))
        await asked()
        slow.go.set()
        await first
        return await last

    assert isinstance(run(ask()), Answered)
    assert slow.batches == [1, 1]


def test_a_batch_keeps_the_limit_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row of a batch takes the bytes of all modalities of the batch."""
    engine, served = version(tmp_path, STATIC)
    slow = Slow(engine)
    both = static(1, 0, b=True)
    batcher = Batcher(LocalBackend(slow), 100, 1000, 10_000)

    async def ask() -> None:
        parts = [static(1, n, b=n == 1) for n in range(4)]
        asking = await begun(slow, (batcher.answer(Computation(served, "encode"), part) for part in parts))
        slow.go.set()
        await asyncio.gather(*asking)

    run(ask())
    assert slow.batches == [1, 3]
    monkeypatch.setattr("service.inference.batcher.MAX_BYTES", both.nbytes)
    batcher._bytes = -(10**9)  # lifts the limit of all waiting requests
    slow.batches.clear()
    run(ask())
    assert slow.batches == [1, 1, 2]


def test_a_batch_keeps_the_limits_of_draws_and_numbers(tmp_path: Path) -> None:
    engine, served = version(tmp_path, STATIC)

    async def ask(n_samples: int, numbers: int) -> list[int]:
        slow = Slow(engine)
        slow.go.set()
        batcher = Batcher(LocalBackend(slow), 100, 1000, 100)
        computation = Computation(served, "reconstruct", {"targets": ["a"], "n_samples": n_samples, "seed": 0})
        parts = [static(1, n, b=False) for n in range(6)]
        await asyncio.gather(*(batcher.answer(computation, part, numbers=numbers) for part in parts))
        return slow.batches

    assert run(ask(0, 1)) == [6]
    assert run(ask(40, 1)) == [2, 2, 2]
    assert run(ask(0, MAX_BATCH_NUMBERS // 3)) == [3, 3]


def test_a_batch_of_forecasts_counts_the_forecast_steps(tmp_path: Path) -> None:
    engine, served = version(tmp_path, SEQUENCE)
    slow = Slow(engine)
    slow.go.set()
    batcher = Batcher(LocalBackend(slow), 100, 1000, 100)
    asked = {"horizon": 10, "targets": ["a"], "n_samples": 5, "quantiles": [0.5], "seed": 0}

    async def ask() -> None:
        parts = [sequences([2], n, b=False) for n in range(5)]
        await asyncio.gather(*(batcher.answer(Computation(served, "forecast", asked), part) for part in parts))

    run(ask())
    assert slow.batches == [2, 2, 1]


def test_a_long_batch_is_not_predicted_short_after_a_short_one_of_another_kind(tmp_path: Path) -> None:
    engine, served = version(tmp_path, STATIC)
    backend = LocalBackend(engine)
    short, long = (Computation(served, "reconstruct", {"targets": [name]}) for name in "ba")
    rows = [static(1, 0, b=True)]
    backend.remember(short, rows, 0.0001)
    assert backend.is_short(short, rows)
    assert not backend.is_short(long, rows)
    assert not backend.is_short(short, [static(1, 0, b=False)])
    drawn = Computation(served, "reconstruct", {"targets": ["b"], "n_samples": 1000})
    backend.remember(drawn, rows, 0.001)
    assert backend.is_short(drawn, rows)
    assert not backend.is_short(Computation(served, "reconstruct", {"targets": ["b"], "n_samples": 999}), rows)


def test_forecast_steps_count_for_every_draw_in_the_prediction(tmp_path: Path) -> None:
    engine, served = version(tmp_path, SEQUENCE)
    backend = LocalBackend(engine)
    asked = Computation(served, "forecast", {"targets": ["a"], "n_samples": 100, "horizon": 100})
    backend.remember(asked, [sequences([1000], 0, b=False)], 0.1)
    assert not backend.is_short(asked, [sequences([1], 0, b=False)])


def test_a_full_queue_refuses_requests(tmp_path: Path) -> None:
    engine, served = version(tmp_path, STATIC)
    slow = Slow(engine)
    batcher = Batcher(LocalBackend(slow), 2, 1, 10_000)
    rows = static(1, 0, b=False)

    async def ask() -> list[Any]:
        asking = await begun(slow, (batcher.answer(Computation(served, "encode"), rows) for _ in range(5)))
        slow.go.set()
        return await asyncio.gather(*asking, return_exceptions=True)

    assert [type(answer) for answer in run(ask())] == [Answered] * 3 + [Unavailable] * 2


def test_requests_without_a_client_leave_a_full_queue(tmp_path: Path) -> None:
    engine, served = version(tmp_path, STATIC)
    slow = Slow(engine)
    batcher = Batcher(LocalBackend(slow), 2, 1, 10_000)
    computation, rows = Computation(served, "encode"), static(1, 0, b=False)
    is_gone: list[bool] = []

    async def ask() -> list[Any]:
        asking = await begun(slow, (batcher.answer(computation, rows, is_gone=lambda: bool(is_gone)) for _ in range(3)))
        is_gone.append(True)
        asking.append(asyncio.create_task(batcher.answer(computation, rows)))
        await asked()
        slow.go.set()
        return await asyncio.gather(*asking, return_exceptions=True)

    assert [getattr(answer, "code", "") for answer in run(ask())] == ["", "client_gone", "client_gone", ""]
    assert slow.batches == [1, 1]
    assert batcher._bytes == 0


def test_requests_without_a_client_are_not_computed_alone_when_a_batch_fails(tmp_path: Path) -> None:
    engine, served = version(tmp_path, STATIC)
    slow = Slow(engine)
    together, fails = threading.Event(), threading.Event()

    def fail(rows: Rows) -> bool:
        if rows.count == 1:
            return False
        together.set()
        return fails.wait(60)

    slow.fails = fail
    batcher = Batcher(LocalBackend(slow), 100, 1000, 10_000)
    computation = Computation(served, "encode")
    is_gone: list[bool] = []

    async def ask() -> list[Any]:
        first = [batcher.answer(computation, static(1, 0, b=False))]
        others = (
            batcher.answer(computation, static(1, 1, b=False), is_gone=lambda: bool(is_gone)),
            batcher.answer(computation, static(2, 2, b=False), timeout_seconds=1),
            batcher.answer(computation, static(1, 3, b=False)),
        )
        asking = await begun(slow, [*first, *others])
        slow.go.set()
        await asyncio.to_thread(together.wait, 60)
        is_gone.append(True)
        with pytest.raises(TimedOut):
            await asking[2]
        fails.set()
        return await asyncio.gather(*asking, return_exceptions=True)

    found = run(ask())
    assert [type(answer) for answer in found] == [Answered, Unavailable, TimedOut, Answered]
    assert slow.batches == [1, 4, 1]


def test_merged_sequences_are_padded_and_absent_where_a_part_lacks_a_modality() -> None:
    rows = merged([sequences([1], 0, b=False), sequences([3, 2], 1, b=True)])
    assert rows.values["a"].shape == (3, 3, 2)
    np.testing.assert_array_equal(rows.present["a"], [[1, 0, 0], [1, 1, 1], [1, 1, 0]])
    np.testing.assert_array_equal(rows.present["b"], [[0, 0, 0], [1, 1, 1], [1, 1, 0]])
    assert rows.lengths is not None
    np.testing.assert_array_equal(rows.lengths, [1, 3, 2])
