"""Pieces of large transfers are processed in threads, one at a time."""

import asyncio
import threading
import time
from collections.abc import Iterator

from service.http.bulk_lane import BulkLane

WAIT_SECONDS = 20
PIECE_SECONDS = 0.01


def test_the_event_loop_runs_while_a_piece_is_made() -> None:
    is_served = threading.Event()

    async def transfer() -> bool:
        asyncio.get_running_loop().call_soon(is_served.set)
        return await BulkLane(lambda: False).run(is_served.wait, WAIT_SECONDS)

    assert asyncio.run(transfer())


def test_transfers_take_turns() -> None:
    made: list[str] = []
    working = threading.Lock()

    def pieces(name: str) -> Iterator[bytes]:
        for number in range(3):
            assert working.acquire(blocking=False), "two pieces are processed at once"
            made.append(f"{name}{number}")
            working.release()
            yield name.encode()

    async def read(lane: BulkLane, name: str) -> bytes:
        return b"".join([piece async for piece in lane.iterate(pieces(name))])

    async def both() -> list[bytes]:
        lane = BulkLane(lambda: False)
        return await asyncio.gather(read(lane, "a"), read(lane, "b"))

    assert asyncio.run(both()) == [b"aaa", b"bbb"]
    assert made == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_transfers_leave_half_of_the_time_to_short_requests() -> None:
    async def seconds() -> float:
        lane = BulkLane(lambda: True)
        began = time.monotonic()
        for _ in range(5):
            await lane.run(time.sleep, PIECE_SECONDS)
        return time.monotonic() - began

    assert asyncio.run(seconds()) >= 10 * PIECE_SECONDS
