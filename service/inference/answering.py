"""Answers queries about model versions, for /v1, /v2 and batches.

Checks the caller's quota, the sequence state and the size of the query, then waits for the batch that computes it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from models.config.conditional import LACKING
from service.access.quotas import check_request_rows
from service.inference import request_size, sequence_state
from service.inference.batcher import Answered, Batcher
from service.inference.modality_values import Array
from service.inference.queries import Computation, Query, Version
from service.shared.errors import Conflict
from service.shared.signing import Signer

LARGE_TOKEN_BYTES = 64 * 1024
"""Size of a state from which a thread signs and verifies it."""


@dataclass(frozen=True, slots=True)
class InferenceService:
    """Answers queries. All of it runs in one event loop."""

    batcher: Batcher
    signer: Signer

    async def answer(
        self, version: Version, query: Query, max_rows: int | None = None, is_gone: Callable[[], bool] | None = None
    ) -> Answered:
        """The answer to a query. A query whose client is gone when its batch begins is not computed.

        max_rows: the caller's quota of rows per request. is_gone: whether the client has disconnected.
        Raises InvalidToken, TooLarge, BadInput and Conflict for the query; Unavailable, TimedOut, Damaged and
        Exhausted.
        """
        _check_draws(version, query)
        check_request_rows(query.rows.count, max_rows)
        state = None if query.state is None else await self._state(version, query.state, query.rows.count)
        computation = Computation(version, query.operation, query.arguments, state is not None)
        numbers = request_size.check(query, computation, version.config)
        answered = await self.batcher.answer(computation, query.rows, state, query.timeout_seconds, is_gone, numbers)
        next_state = answered.tree.pop("state", None)
        if next_state is None or not query.returns_state:
            return answered
        return answered._replace(state=await self._token(version, next_state))

    async def _state(self, version: Version, token: str, rows: int) -> Array:
        if len(token) < LARGE_TOKEN_BYTES:
            return sequence_state.from_token(self.signer, version, token, rows)
        return await asyncio.to_thread(sequence_state.from_token, self.signer, version, token, rows)

    async def _token(self, version: Version, state: Array) -> str:
        if state.nbytes < LARGE_TOKEN_BYTES:
            return sequence_state.to_token(self.signer, version, state)
        return await asyncio.to_thread(sequence_state.to_token, self.signer, version, state)


def _check_draws(version: Version, query: Query) -> None:
    """Raise Conflict for draws that the version cannot take."""
    if query.arguments.get("draws") and version.config.conditional is None:
        raise Conflict("no_conditional", f"model {version.model!r} version {version.number} {LACKING}")
