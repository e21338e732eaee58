"""Parquet: one column per modality."""

from service.datasets.export import parquet
from service.datasets.formats.format import Download, Format

MAGIC = b"PAR1"

FORMAT = Format(
    name="parquet",
    title="Parquet",
    suffixes=(".parquet",),
    media_type="application/vnd.apache.parquet",
    recognises=lambda first: first.startswith(MAGIC),
    reader="worker.ingest.parquet:read",
    download=Download(parquet.write),
)
