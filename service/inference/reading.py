"""Bodies of the operations become rows and arguments: small ones at once, large ones in a process of their own."""

from collections.abc import Callable
from typing import Any, NamedTuple

from models.config import parse
from service.inference.bounds import check_counts
from service.inference.fields import Body
from service.inference.payload import Config, Limits, Rows, check_size, parse_rows, parse_targets
from service.inference.questions import Operation
from service.inference.values import shown
from service.shared.errors import BadInput, Fault, NotOurs
from service.shared.parser_process import LARGE_BYTES, Array, ReadingProcess, Said

MOST_DRAWS = 1000
MOST_SEED = 2**53 - 1
MOST_STEPS = 2**20


class About(NamedTuple):
    """What a body is read for: a model, and how much one request may ask of it."""

    model: str
    config: Config
    rows: int
    steps: int

    def limits(self, draws: int = 1) -> Limits:
        """The limits of rows that are drawn so often."""
        return Limits(self.rows, self.steps, max(draws, 1))


class Asked(NamedTuple):
    """What a body asks for.

    arguments: of the predictor's method, beside the rows. streams: whether there is a field `state`; state: its token.
    """

    operation: Operation
    rows: Rows
    arguments: dict[str, Any]
    seconds: float
    streams: bool
    state: str | None


async def read(process: ReadingProcess, operation: Operation, raw: bytes, about: About) -> Asked:
    """What the body of an operation asks for. Raises BadInput with the place of every fault."""
    if len(raw) < LARGE_BYTES:
        return READERS[operation](raw, about)
    said, arrays = await process.read(read_apart, {"operation": operation, "about": portable(about)}, raw)
    return Asked(rows=rows_of(said.pop("count"), arrays), **said)


def read_apart(said: Said, raw: bytes) -> tuple[Said, dict[str, Array]]:
    """The same in the other process."""
    about = about_of(said["about"])
    check_counts(raw, about.config, about.rows, about.steps)
    asked = READERS[said["operation"]](raw, about)
    plain = asked._asdict()
    del plain["rows"]
    return {**plain, "count": asked.rows.count}, arrays_of(asked.rows)


def portable(about: About) -> Said:
    """What a body is read for, as plain values."""
    return {**about._asdict(), "config": about.config.model_dump(mode="json")}


def about_of(said: Said) -> About:
    """What `portable` has said."""
    return About(**{**said, "config": parse(said["config"])})


def arrays_of(rows: Rows) -> dict[str, Array]:
    """All arrays of rows, by a name for each."""
    arrays = {f"values {name}": array for name, array in rows.values.items()}
    arrays |= {f"present {name}": array for name, array in rows.present.items()}
    return arrays if rows.lengths is None else {**arrays, "lengths": rows.lengths}


def rows_of(count: int, arrays: dict[str, Array]) -> Rows:
    """The rows that `arrays_of` has taken apart."""
    values = {name.removeprefix("values "): array for name, array in arrays.items() if name.startswith("values ")}
    return Rows(count, values, {name: arrays[f"present {name}"] for name in values}, arrays.get("lengths"))


def _encode(raw: bytes, about: About) -> Asked:
    body = Body(raw, {"inputs", "state", "timeout_seconds"})
    return _asked("encode", body, about, {})


def _reconstruct(raw: bytes, about: About) -> Asked:
    fields = {"inputs", "targets", "n_samples", "seed", "state", "timeout_seconds"}
    body = Body(raw, fields)
    targets = parse_targets(body.get("targets"), about.config)
    n_samples, seed = body.integer("n_samples", 0, MOST_DRAWS), body.integer("seed", 0, MOST_SEED)
    drawn = {"targets": targets, "n_samples": n_samples, "seed": seed if n_samples else 0}
    return _asked("reconstruct", body, about, drawn)


def _score(raw: bytes, about: About) -> Asked:
    body = Body(raw, {"inputs", "n_samples", "seed", "timeout_seconds"})
    n_samples, seed = body.integer("n_samples", 0, MOST_DRAWS), body.integer("seed", 0, MOST_SEED)
    return _asked("score", body, about, {"n_samples": n_samples, "seed": seed if n_samples else 0})


def _forecast(raw: bytes, about: About) -> Asked:
    fields = {"inputs", "targets", "horizon", "n_samples", "seed", "quantiles", "state", "timeout_seconds"}
    body = Body(raw, fields)
    _refuse_samples(about)
    targets = parse_targets(body.get("targets"), about.config)
    horizon = body.integer("horizon", 1, MOST_STEPS, least=1)
    n_samples, seed = body.integer("n_samples", 100, MOST_DRAWS), body.integer("seed", 0, MOST_SEED)
    quantiles = body.fractions("quantiles", [0.05, 0.5, 0.95])
    drawn = {"horizon": horizon, "targets": targets, "n_samples": n_samples, "quantiles": quantiles}
    asked = _asked("forecast", body, about, drawn | {"seed": seed if n_samples else 0})
    check_size(asked.rows.count, horizon, about.limits(n_samples), "/horizon")
    return asked


def _sample(raw: bytes, about: About) -> Asked:
    body = Body(raw, {"rows", "steps", "seed", "timeout_seconds"})
    count, seed = body.integer("rows", 1, about.rows, least=1), body.integer("seed", 0, MOST_SEED)
    steps = body.integer("steps", 0, MOST_STEPS)
    sequences = about.config.kind == "sequence"
    if sequences != bool(steps):
        expected = "a number of time steps, at least 1" if sequences else "none: the model is of samples, not sequences"
        raise BadInput([Fault("/steps", "bad_steps", f"steps is {steps}, expected {expected}")])
    check_size(count, steps or 1, about.limits(), "/rows")
    arguments = {"steps": steps or None, "seed": seed}
    return Asked("sample", Rows(count, {}, {}, None), arguments, body.seconds("timeout_seconds"), False, None)


def _asked(operation: Operation, body: Body, about: About, arguments: dict[str, Any]) -> Asked:
    rows = parse_rows(body.get("inputs"), about.config, about.limits(arguments.get("n_samples", 1)))
    if "state" in body:
        _refuse_samples(about)
        if getattr(about.config, "inference", None) == "smooth":
            detail = "the model looks at each sequence as a whole, and cannot take it in pieces"
            raise BadInput([Fault("/state", "whole_sequences_only", detail)])
    return Asked(operation, rows, arguments, body.seconds("timeout_seconds"), "state" in body, _state(body))


def _state(body: Body) -> str | None:
    """The token as it came. Raises NotOurs for what is no text."""
    state = body.get("state")
    if state is None or isinstance(state, str):
        return state
    detail = f"state is {shown(state)}, expected the text that an answer has carried, or null"
    raise NotOurs([Fault("/state", "invalid_state", detail)], "invalid_state")


def _refuse_samples(about: About) -> None:
    if about.config.kind != "sequence":
        detail = f"{about.model!r} is a model of samples, which have no time steps; expected a model of sequences"
        raise BadInput([Fault("", "not_a_sequence_model", detail)])


READERS: dict[Operation, Callable[[bytes, About], Asked]] = {
    "encode": _encode,
    "reconstruct": _reconstruct,
    "score": _score,
    "forecast": _forecast,
    "sample": _sample,
}
