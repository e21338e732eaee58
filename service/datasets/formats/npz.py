""".npz: one array per modality, as numpy.savez writes them."""

from collections.abc import Sequence

from service.datasets import exported_schema
from service.datasets.declaration import Declaration
from service.datasets.export import npz as export
from service.datasets.formats.format import Download, Format
from service.datasets.npz_layout import known, plan
from service.shared import npz
from service.shared.errors import Conflict
from service.shared.npz import ArrayHeader
from service.shared.samples import Samples

# A ZIP archive with members, and an empty one.
MAGIC = (b"PK\x03\x04", b"PK\x05\x06")


def check_declaration(arrays: Sequence[ArrayHeader], declaration: Declaration) -> None:
    """Plan the layout before the conversion is queued. Raises BadInput.

    A file with its own schema is only checked by the worker, which reads that schema.
    """
    if not any(array.name == exported_schema.KEY for array in arrays):
        plan(arrays, known(arrays, declaration)[0])


def check_download(samples: Samples, max_bytes: int) -> None:
    """Raise Conflict if the padded arrays have more than max_bytes."""
    size = export.unpacked_bytes(samples)
    if size > max_bytes:
        detail = f"padded to the longest sequence, the file has {size} bytes, expected at most {max_bytes}"
        detail += "; choose another format"
        raise Conflict("too_ragged_for_npz", detail)


FORMAT = Format(
    name="npz",
    title=".npz",
    suffixes=(".npz",),
    media_type="application/zip",
    recognises=lambda first: first.startswith(MAGIC),
    reader="worker.ingest.npz:read",
    inspect=npz.inspect,
    check_declaration=check_declaration,
    download=Download(export.write, check_download),
)
