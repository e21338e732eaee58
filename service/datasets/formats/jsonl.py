"""JSON Lines: one object per line, whose keys are columns."""

from codecs import BOM_UTF8

from service.datasets.export import jsonl
from service.datasets.formats.format import Download, Format

FORMAT = Format(
    name="jsonl",
    title="JSON Lines",
    suffixes=(".jsonl", ".ndjson"),
    media_type="application/jsonl",
    recognises=lambda first: first.removeprefix(BOM_UTF8).lstrip(b" \t\r\n").startswith(b"{"),
    reader="worker.ingest.jsonl:read",
    download=Download(jsonl.write),
)
