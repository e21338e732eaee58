"""Bodies of `infer` become rows: small ones at once, large JSON in a process of its own, large tensors in a thread."""

from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool

from service.inference.bounds import check_counts
from service.inference.payload import Rows
from service.inference.reading import About, about_of, arrays_of, portable, rows_of
from service.open_inference import framing
from service.open_inference.outputs import Outputs, read_outputs
from service.open_inference.parameters import Parameters, read_parameters
from service.open_inference.tensors import read_rows
from service.shared.parser_process import LARGE_BYTES, Array, ReadingProcess, Said


class Asked(NamedTuple):
    """What a body asks for."""

    parameters: Parameters
    outputs: Outputs
    rows: Rows


async def read(process: ReadingProcess, body: bytes, head_length: str | None, about: About) -> Asked:
    """What a body asks for. head_length: the bytes of its JSON, where tensors follow. Raises BadInput."""
    if len(body) < LARGE_BYTES:
        return _read(body, head_length, about)[1]
    if framing.head_bytes(body, head_length) < LARGE_BYTES:
        return (await run_in_threadpool(_read, body, head_length, about))[1]
    said, arrays = await process.read(read_apart, {"head_length": head_length, "about": portable(about)}, body)
    head = said["head"]
    return Asked(read_parameters(head), read_outputs(head, about.config), rows_of(said["count"], arrays))


def read_apart(said: Said, body: bytes) -> tuple[Said, dict[str, Array]]:
    """The same in the other process: the head without its tensors, and those."""
    about, head_length = about_of(said["about"]), said["head_length"]
    check_counts(body[: framing.head_bytes(body, head_length)], about.config, about.rows, about.steps)
    head, asked = _read(body, head_length, about)
    small = {name: value for name, value in head.items() if name != "inputs"}
    return {"head": small, "count": asked.rows.count}, arrays_of(asked.rows)


def _read(body: bytes, head_length: str | None, about: About) -> tuple[dict[str, Any], Asked]:
    head, binary = framing.split(body, head_length)
    parameters, outputs = read_parameters(head), read_outputs(head, about.config)
    return head, Asked(parameters, outputs, read_rows(head, binary, about.config, about.limits(parameters.n_samples)))
