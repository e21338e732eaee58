"""JSON bodies of the /v1 operations become queries: small ones in the event loop, large ones in a process of their own.

They are decoded without Pydantic: most of a body are values, which only NumPy should read.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

import orjson

from models.config import parse
from service.inference import imputed_targets, sequence_state
from service.inference import rows as row_arrays
from service.inference.body_limits import check_counts
from service.inference.modality_values import shown
from service.inference.queries import Config, Operation, Query, Version
from service.inference.row_decoding import MAX_FAULTS, decode_rows
from service.inference.rows import RowLimits, Rows
from service.shared import json_documents, json_syntax
from service.shared.errors import BadInput, Fault, pointer
from service.shared.parser_process import LARGE_BYTES, Array, ReadingProcess, Values
from service.shared.settings import Settings

DEFAULT_LEVEL = 0.9
MAX_DRAWS = 1000
MAX_QUANTILES = 20
MAX_SECONDS = 600
MAX_SEED = 2**53 - 1
MAX_STEPS = 2**20
MAX_TARGETS = 100


class ModelContext(NamedTuple):
    """The model that a body is about, and the limits of one request."""

    model: str
    config: Config
    rows: int
    steps: int

    @classmethod
    def of(cls, version: Version, settings: Settings) -> "ModelContext":
        """The context of requests about a version."""
        return cls(version.model, version.config, settings.inference_rows, settings.inference_steps)

    def limits(self, draws: int = 1) -> RowLimits:
        """The limits of rows that are drawn `draws` times."""
        return RowLimits(self.rows, self.steps, max(draws, 1))

    def to_plain(self) -> Values:
        """The context as plain values, for another process."""
        return {**self._asdict(), "config": self.config.model_dump(mode="json")}

    @classmethod
    def from_plain(cls, plain: Values) -> "ModelContext":
        """The inverse of `to_plain`."""
        return cls(**{**plain, "config": parse(plain["config"])})


async def decode(process: ReadingProcess, operation: Operation, raw: bytes, context: ModelContext) -> Query:
    """The query of a body. Raises BadInput with the place of every fault."""
    if len(raw) < LARGE_BYTES:
        return DECODERS[operation](raw, context)
    plain, arrays = await process.read(decode_apart, {"operation": operation, "context": context.to_plain()}, raw)
    return Query(rows=row_arrays.from_arrays(plain.pop("count"), arrays), **plain)


def decode_apart(plain: Values, raw: bytes) -> tuple[Values, dict[str, Array]]:
    """The same, in the other process."""
    context = ModelContext.from_plain(plain["context"])
    check_counts(raw, context.config, context.rows, context.steps)
    query = DECODERS[plain["operation"]](raw, context)
    fields = {
        "operation": query.operation,
        "arguments": query.arguments,
        "timeout_seconds": query.timeout_seconds,
        "state": query.state,
        "returns_state": query.returns_state,
    }
    return {**fields, "count": query.rows.count}, row_arrays.to_arrays(query.rows)


class Body:
    """The fields of a JSON object. Raises BadInput if the body is not one, or has unknown or repeated fields."""

    def __init__(self, raw: bytes, fields: set[str]) -> None:
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise BadInput([Fault("", "not_json", f"the body is not JSON: {json_syntax.reason(error)}")]) from error
        if not isinstance(body, dict):
            raise BadInput([Fault("", "not_an_object", f"the body is {shown(body)}, expected an object")])
        # A good body has one colon per key of its two objects. More colons are repeated keys, or fields that are bad.
        inputs = body.get("inputs")
        if raw.count(b":") != len(body) + (len(inputs) if isinstance(inputs, dict) else 0):
            json_documents.refuse_repeated_keys(raw)
        if body.keys() - fields:
            expected = f"expected some of {sorted(fields)}"
            first = islice((name for name in body if name not in fields), MAX_FAULTS)
            raise BadInput([Fault(pointer(n), "unknown_field", f"unknown field {shown(n)}, {expected}") for n in first])
        self._fields: dict[str, Any] = body

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def get(self, name: str) -> Any:
        """A field as it was sent, None if it was not."""
        return self._fields.get(name)

    def integer(self, name: str, default: int, largest: int, smallest: int = 0) -> int:
        """An integer within limits. Raises BadInput."""
        value = self._fields.get(name, default)
        if type(value) is float and value.is_integer():  # JSON Schema's integers may be written 1.0
            value = int(value)
        if type(value) is not int or not smallest <= value <= largest:
            detail = f"{name} is {shown(value)}, expected an integer from {smallest} to {largest}"
            raise BadInput([Fault(f"/{name}", "bad_integer", detail)])
        return value

    def seconds(self, name: str) -> float:
        """A duration, infinite by default. Raises BadInput."""
        value = self._fields.get(name)
        if value is None:
            return math.inf
        if type(value) not in (int, float) or not 0 < value <= MAX_SECONDS:
            detail = f"{name} is {shown(value)}, expected a number above 0, at most {MAX_SECONDS}"
            raise BadInput([Fault(f"/{name}", "bad_seconds", detail)])
        return float(value)

    def fractions(self, name: str, default: list[float]) -> list[float]:
        """Numbers from 0 to 1. Raises BadInput."""
        value = self._fields.get(name, default)
        fits = isinstance(value, list) and 0 < len(value) <= MAX_QUANTILES
        if not fits or any(type(item) not in (int, float) or not 0 <= item <= 1 for item in value):
            detail = f"{name} is {shown(value)}, expected up to {MAX_QUANTILES} numbers from 0 to 1"
            raise BadInput([Fault(f"/{name}", "bad_fractions", detail)])
        return [float(item) for item in value]

    def fraction(self, name: str, default: float) -> float:
        """A number between 0 and 1. Raises BadInput."""
        value = self._fields.get(name, default)
        if type(value) not in (int, float) or not 0 < value < 1:
            detail = f"{name} is {shown(value)}, expected a number above 0 and below 1"
            raise BadInput([Fault(f"/{name}", "bad_fraction", detail)])
        return float(value)

    def targets(self, config: Config) -> list[str]:
        """The modalities to predict, all of them by default. Raises BadInput."""
        known = [modality.name for modality in config.modalities]
        targets = self._fields.get("targets")
        if targets is None:
            return known
        if not isinstance(targets, list) or not targets:
            raise BadInput([Fault("/targets", "bad_targets", f"targets is {shown(targets)}, expected a list of names")])
        faults = [
            Fault(f"/targets/{i}", "unknown_modality", f"targets[{i}] is {shown(name)}, expected one of {known}")
            for i, name in enumerate(targets[:MAX_TARGETS])
            if name not in known
        ]
        if len(targets) > MAX_TARGETS:
            detail = f"targets has {len(targets)} names, expected at most {MAX_TARGETS}"
            faults.append(Fault("/targets", "too_many", detail))
        if faults:
            raise BadInput(faults[:MAX_FAULTS])
        return list(dict.fromkeys(targets))

    def state(self) -> str | None:
        """The token of a state as it was sent. Raises InvalidToken if it is not a text."""
        state = self._fields.get("state")
        if state is None or isinstance(state, str):
            return state
        raise sequence_state.invalid_state(f"state is {shown(state)}, expected the `state` of an answer, or null")


def _encode(raw: bytes, context: ModelContext) -> Query:
    body = Body(raw, {"inputs", "state", "timeout_seconds"})
    return _query("encode", body, context, {})


def _reconstruct(raw: bytes, context: ModelContext) -> Query:
    body = Body(raw, {"inputs", "targets", "n_samples", "seed", "state", "timeout_seconds"})
    targets = body.targets(context.config)
    n_samples, seed = body.integer("n_samples", 0, MAX_DRAWS), body.integer("seed", 0, MAX_SEED)
    arguments = {"targets": targets, "n_samples": n_samples, "seed": seed if n_samples else 0}
    return _query("reconstruct", body, context, arguments)


def _impute(raw: bytes, context: ModelContext) -> Query:
    body = Body(raw, {"inputs", "targets", "draws", "level", "seed", "state", "timeout_seconds"})
    named = [] if body.get("targets") is None else body.targets(context.config)
    draws, seed = body.integer("draws", 0, MAX_DRAWS), body.integer("seed", 0, MAX_SEED)
    arguments = {"draws": draws, "level": body.fraction("level", DEFAULT_LEVEL), "seed": seed if draws else 0}
    query = _query("impute", body, context, arguments)
    rows = query.rows
    listed: list[str] = body.get("targets") or []
    pointers = {name: pointer("targets", listed.index(name)) for name in named}
    targets = imputed_targets.of(rows, context.config, pointers)
    context.limits(draws).check_steps(rows.count, rows.steps, "/draws")
    return replace(query, arguments=arguments | {"targets": targets})


def _score(raw: bytes, context: ModelContext) -> Query:
    body = Body(raw, {"inputs", "n_samples", "seed", "timeout_seconds"})
    n_samples, seed = body.integer("n_samples", 0, MAX_DRAWS), body.integer("seed", 0, MAX_SEED)
    return _query("score", body, context, {"n_samples": n_samples, "seed": seed if n_samples else 0})


def _forecast(raw: bytes, context: ModelContext) -> Query:
    fields = {"inputs", "targets", "horizon", "n_samples", "seed", "quantiles", "state", "timeout_seconds"}
    body = Body(raw, fields)
    _check_is_sequence_model(context)
    targets = body.targets(context.config)
    horizon = body.integer("horizon", 1, MAX_STEPS, smallest=1)
    n_samples, seed = body.integer("n_samples", 100, MAX_DRAWS), body.integer("seed", 0, MAX_SEED)
    quantiles = body.fractions("quantiles", [0.05, 0.5, 0.95])
    arguments = {"horizon": horizon, "targets": targets, "n_samples": n_samples, "quantiles": quantiles}
    query = _query("forecast", body, context, arguments | {"seed": seed if n_samples else 0})
    context.limits(n_samples).check_steps(query.rows.count, horizon, "/horizon")
    return query


def _sample(raw: bytes, context: ModelContext) -> Query:
    body = Body(raw, {"rows", "steps", "seed", "timeout_seconds"})
    count, seed = body.integer("rows", 1, context.rows, smallest=1), body.integer("seed", 0, MAX_SEED)
    steps = body.integer("steps", 0, MAX_STEPS)
    sequences = context.config.kind == "sequence"
    if sequences != bool(steps):
        expected = "a number of time steps, at least 1" if sequences else "none: the model is of samples, not sequences"
        raise BadInput([Fault("/steps", "bad_steps", f"steps is {steps}, expected {expected}")])
    context.limits().check_steps(count, steps or 1, "/rows")
    arguments = {"steps": steps or None, "seed": seed}
    return Query("sample", Rows(count, {}, {}, None), arguments, body.seconds("timeout_seconds"))


def _query(operation: Operation, body: Body, context: ModelContext, arguments: dict[str, Any]) -> Query:
    rows = decode_rows(body.get("inputs"), context.config, context.limits(arguments.get("n_samples", 1)))
    if "state" in body:
        _check_is_sequence_model(context)
        if getattr(context.config, "inference", None) == "smooth":
            detail = "the model encodes each sequence as a whole, and cannot take it in pieces"
            raise BadInput([Fault("/state", "whole_sequences_only", detail)])
    return Query(operation, rows, arguments, body.seconds("timeout_seconds"), body.state(), "state" in body)


def _check_is_sequence_model(context: ModelContext) -> None:
    if context.config.kind != "sequence":
        detail = f"{context.model!r} is a model of samples, which have no time steps; expected a model of sequences"
        raise BadInput([Fault("", "not_a_sequence_model", detail)])


DECODERS: dict[Operation, Callable[[bytes, ModelContext], Query]] = {
    "encode": _encode,
    "reconstruct": _reconstruct,
    "impute": _impute,
    "score": _score,
    "forecast": _forecast,
    "sample": _sample,
}
