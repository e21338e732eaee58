"""Which reader a dataset's source needs."""

from pathlib import Path, PurePosixPath
from typing import Any

from models import synthetic
from service.datasets.layout import Declaration
from service.shared import locations
from service.shared.errors import BadInput, Fault
from service.shared.settings import Settings
from worker.ingest.arrays import ArraysSource
from worker.ingest.block import Source
from worker.ingest.faults import Faults
from worker.ingest.jsonl import JsonLinesSource
from worker.ingest.npz import NpzSource
from worker.ingest.parquet import ParquetSource

SUFFIXES = {".npz": "npz", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def open(source: dict[str, Any], declaration: Declaration, settings: Settings, scratch: Path, faults: Faults) -> Source:
    """The reader of a source: {"file", "format"}, {"uri", "format"?} or {"generator"}.

    `scratch` is a folder for what does not fit in memory. Raises BadInput for what can be no dataset.
    """
    if "generator" in source:
        return _generated(source["generator"], declaration)
    if "uri" in source:
        path = scratch / "download"
        locations.download(source["uri"], path, settings.upload_bytes, settings)
        return _file(path, source.get("format") or _by_suffix(source["uri"]), declaration, settings, scratch, faults)
    return _file(Path(source["file"]), source["format"], declaration, settings, scratch, faults)


def _file(
    path: Path, format: str, declaration: Declaration, settings: Settings, scratch: Path, faults: Faults
) -> Source:
    if format == "parquet":
        return ParquetSource(path, declaration, settings.unpacked_bytes)
    if format == "jsonl":
        return JsonLinesSource(path, declaration, settings.unpacked_bytes)
    return NpzSource(path, declaration, settings.unpacked_bytes, scratch, faults)


def _by_suffix(uri: str) -> str:
    suffix = PurePosixPath(uri).suffix.lower()
    if suffix not in SUFFIXES:
        detail = f"{uri[:200]!r} ends with {suffix!r}, expected one of {', '.join(SUFFIXES)}, or a format beside it"
        raise BadInput([Fault("/source/uri", "unknown_format", detail)])
    return SUFFIXES[suffix]


def _generated(asked: dict[str, Any], declaration: Declaration) -> Source:
    parameters = {name: value for name, value in asked.items() if name not in ("name", "seed")}
    made = synthetic.generate(asked["name"], parameters, asked["seed"])
    return ArraysSource(made.values, made.kind, made.splits, declaration)
