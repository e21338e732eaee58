"""`python -m worker.ingest.converter`: converts a source to a stored dataset, in a process of its own.

A hostile file can crash only this process, and its memory is limited.

Spec: source ({"file", "format"}, {"uri"}, or {"generator"}), declaration, result (the path to write to), room (the
bytes that the project may still store, or null).
"""

import threading
from dataclasses import asdict
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from models import synthetic
from service.datasets import formats
from service.datasets.declaration import Declaration
from service.datasets.layout import REJECTED
from service.shared import allowed_locations
from service.shared.errors import BadInput
from service.shared.settings import Settings
from worker import protocol
from worker.ingest import memory
from worker.ingest.arrays import ArraysSource
from worker.ingest.block import Reader, ReadOptions, Source
from worker.ingest.convert import convert
from worker.ingest.faults import Faults
from worker.ingest.size import QUOTA, Limits


class _Stopped(Exception):
    """The supervisor asked the process to stop."""


def run(spec: dict[str, Any], emit: protocol.Emit, stopping: threading.Event) -> dict[str, Any] | None:
    """Convert the source. Returns the stored file, its rows, schema, statistics and warnings, or None if stopped."""
    declaration = Declaration.model_validate(spec["declaration"])
    result, faults, settings = Path(spec["result"]), Faults(), Settings()
    limits = Limits(settings.unpacked_bytes, spec.get("room"))
    memory.limit(settings.conversion_memory_bytes)

    def on_block(fraction: float) -> None:
        if stopping.is_set():
            raise _Stopped
        emit({"event": "progress", "phase": "validating", "fraction": fraction, "eta_seconds": None})

    try:
        source = open_source(spec["source"], declaration, settings, result.parent, faults)
        converted = convert(source, faults, result, on_block, limits)
    except BadInput as error:
        raise BadInput(error.faults, code=QUOTA if error.code == QUOTA else REJECTED) from error
    except MemoryError as error:
        raise BadInput(memory.too_large(settings.conversion_memory_bytes).faults, code=REJECTED) from error
    except _Stopped:
        return None
    return {
        "result": str(result),
        "rows": converted.rows,
        "schema": converted.schema.model_dump(mode="json"),
        "statistics": converted.statistics,
        "warnings": [asdict(warning) for warning in converted.warnings],
    }


def open_source(
    source: dict[str, Any], declaration: Declaration, settings: Settings, scratch: Path, faults: Faults
) -> Source:
    """Open a source: {"file", "format"}, {"uri", "format"?} or {"generator"}.

    scratch: an existing folder for what does not fit in memory. Raises BadInput for a source that cannot become a
    dataset.
    """
    if "generator" in source:
        return _generate(source["generator"], declaration)
    options = ReadOptions(settings.unpacked_bytes, scratch, faults)
    if "uri" in source:
        path = scratch / "download"
        allowed_locations.download(source["uri"], path, settings.upload_bytes, settings)
        format = formats.find(source["format"]) if source.get("format") else formats.of_uri(source["uri"])
    else:
        path, format = Path(source["file"]), formats.find(source["format"])
    read: Reader = resolve_name(format.reader)
    return read(path, declaration, options)


def _generate(request: dict[str, Any], declaration: Declaration) -> Source:
    parameters = {name: value for name, value in request.items() if name not in ("name", "seed")}
    generated = synthetic.generate(request["name"], parameters, request["seed"])
    return ArraysSource(generated.values, generated.kind, generated.splits, declaration)


if __name__ == "__main__":
    protocol.run(run)
