"""A query is answered without HTTP: quota, size and state are checked once, for every protocol."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from service.inference.answering import InferenceService
from service.inference.batcher import Answered, Batcher
from service.inference.local_backend import LocalBackend
from service.inference.queries import Config, Query, Version
from service.inference.rows import Rows
from service.shared.errors import BadInput, InvalidToken, TimedOut, TooLarge, Unavailable
from service.shared.signing import Signer
from tests.service.inference.test_batcher import SEQUENCE, STATIC, sequences, static, version


def service(tmp_path: Path, config: Config) -> tuple[InferenceService, Version]:
    engine, served = version(tmp_path, config)
    return InferenceService(Batcher(LocalBackend(engine), 100, 1000, 10_000), Signer(["k" * 32])), served


def first_steps(rows: Rows, steps: slice) -> Rows:
    """A part of the steps of sequences of equal lengths."""
    values = {name: array[:, steps] for name, array in rows.values.items()}
    present = {name: mask[:, steps] for name, mask in rows.present.items()}
    return Rows(rows.count, values, present, np.full(rows.count, next(iter(present.values())).shape[1]))


def test_a_sequence_in_two_pieces_gets_the_answer_of_the_whole(tmp_path: Path) -> None:
    inference, served = service(tmp_path, SEQUENCE)
    rows = sequences([4, 4], 0, b=True)

    async def answer() -> tuple[Answered, Answered, Answered]:
        whole = await inference.answer(served, Query("encode", rows))
        first = await inference.answer(served, Query("encode", first_steps(rows, slice(0, 2)), returns_state=True))
        rest = Query("encode", first_steps(rows, slice(2, 4)), state=first.state)
        return whole, first, await inference.answer(served, rest)

    whole, first, second = asyncio.run(answer())
    pieces = np.concatenate([first.tree["mean"], second.tree["mean"]], axis=1)
    np.testing.assert_allclose(pieces, whole.tree["mean"], rtol=1e-4, atol=1e-5)
    assert (whole.state, second.state) == (None, None)
    assert "state" not in whole.tree


def test_a_state_of_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    inference, served = service(tmp_path, SEQUENCE)

    async def answer() -> None:
        first = await inference.answer(served, Query("encode", sequences([2], 0, b=False), returns_state=True))
        await inference.answer(served, Query("encode", sequences([2, 2], 0, b=False), state=first.state))

    with pytest.raises(InvalidToken, match="state is of 1 rows, the inputs have 2"):
        asyncio.run(answer())


def test_an_invalid_state_token_is_refused(tmp_path: Path) -> None:
    inference, served = service(tmp_path, SEQUENCE)
    with pytest.raises(InvalidToken, match="expected one that 'm' version 1 has returned"):
        asyncio.run(inference.answer(served, Query("encode", sequences([2], 0, b=False), state="abc")))


def test_the_quota_of_rows_is_checked(tmp_path: Path) -> None:
    inference, served = service(tmp_path, STATIC)
    query = Query("encode", static(3, 0, b=False))
    assert asyncio.run(inference.answer(served, query, max_rows=3)).tree["mean"].shape == (3, 3)
    with pytest.raises(TooLarge, match="the request has 3 rows"):
        asyncio.run(inference.answer(served, query, max_rows=2))


def test_an_answer_that_is_too_large_is_refused(tmp_path: Path) -> None:
    inference, served = service(tmp_path, STATIC)
    with pytest.raises(BadInput, match="too many for one answer"):
        asyncio.run(inference.answer(served, Query("sample", Rows(2**24, {}, {}, None), {"steps": None, "seed": 0})))


def test_a_query_past_its_deadline_or_without_a_client_is_not_answered(tmp_path: Path) -> None:
    inference, served = service(tmp_path, STATIC)
    rows = static(1, 0, b=False)
    with pytest.raises(TimedOut, match="no answer within timeout_seconds"):
        asyncio.run(inference.answer(served, Query("encode", rows, timeout_seconds=1e-9)))
    with pytest.raises(Unavailable, match="the client has disconnected"):
        asyncio.run(inference.answer(served, Query("encode", rows), is_gone=lambda: True))
