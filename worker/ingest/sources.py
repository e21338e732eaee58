"""Opens the source of a dataset: a file in a registered format, a file behind a URI, or a generator."""

from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from models import synthetic
from service.datasets import formats
from service.datasets.layout import Declaration
from service.shared import allowed_locations
from service.shared.settings import Settings
from worker.ingest.arrays import ArraysSource
from worker.ingest.block import Reader, ReadOptions, Source
from worker.ingest.faults import Faults


def open(source: dict[str, Any], declaration: Declaration, settings: Settings, scratch: Path, faults: Faults) -> Source:
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
