"""Dataset sources: only URIs with an allowed prefix are read."""

import os
from pathlib import Path

import httpx2 as httpx
import pytest

from service.shared import allowed_locations
from service.shared.errors import BadInput
from service.shared.settings import Settings

ALLOWED = ("s3://measurements/2026", "file:///data/shared/")


@pytest.mark.parametrize(
    "uri", ["s3://measurements/2026/a.parquet", "s3://measurements/2026/x/y.npz", "file:///data/shared/a%20b.npz"]
)
def test_a_uri_with_an_allowed_prefix_is_accepted(uri: str) -> None:
    assert allowed_locations.check(uri, ALLOWED) is None


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://measurements/2025/a.npz", "location_not_allowed"),
        ("s3://measurements/2026x/a.npz", "location_not_allowed"),
        ("s3://other/2026/a.npz", "location_not_allowed"),
        ("s3://measurements/2026", "location_not_allowed"),
        ("file:///etc/passwd", "location_not_allowed"),
        ("file://host/data/shared/a.npz", "location_not_allowed"),
        ("file:///data/shared/../secret", "bad_location"),
        ("file:///data/shared/%2e%2e/secret", "bad_location"),
        ("file:///data/shared/a.npz?x=1", "bad_location"),
        ("s3://measurements/2026/", "bad_location"),
        ("s3://measurements/2026//a.npz", "bad_location"),
        ("s3://[measurements/2026/a.npz", "bad_location"),
        ("s3://\u2100measurements/2026/a.npz", "bad_location"),
        ("file:///data/shared/a%00.npz", "bad_location"),
        ("http://data/shared/a.npz", "unknown_scheme"),
        ("/data/shared/a.npz", "unknown_scheme"),
        ("", "unknown_scheme"),
    ],
)
def test_a_uri_without_an_allowed_prefix_is_refused(uri: str, expected: str) -> None:
    with pytest.raises(BadInput) as caught:
        allowed_locations.check(uri, ALLOWED)
    (fault,) = caught.value.faults
    assert (fault.pointer, fault.code) == ("/source/uri", expected)


def test_no_location_is_allowed_by_default() -> None:
    with pytest.raises(BadInput, match="an upload: this installation allows no other locations"):
        allowed_locations.check("file:///data/shared/a.npz", Settings().source_prefixes)


def allowed(folder: Path) -> Settings:
    return Settings(source_prefixes=[f"file://{folder}"])


def refused(uri: str, target: Path, settings: Settings, max_bytes: int = 100) -> str:
    with pytest.raises(BadInput) as caught:
        allowed_locations.download(uri, target, max_bytes, settings)
    return caught.value.faults[0].code


def test_a_file_is_copied(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"content")
    allowed_locations.download(f"file://{tmp_path}/a.npz", tmp_path / "copy", 7, allowed(tmp_path))
    assert (tmp_path / "copy").read_bytes() == b"content"
    assert refused(f"file://{tmp_path}/a.npz", tmp_path / "copy", allowed(tmp_path), 6) == "too_large"


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (inside / "link").symlink_to(tmp_path / "secret")
    assert refused(f"file://{inside}/link", tmp_path / "copy", allowed(inside)) == "unknown_source"


@pytest.mark.parametrize("name", ["nothing", "folder", "pipe", "loop", "x" * 400, "file/inside"])
def test_a_path_that_is_not_a_readable_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    assert refused(f"file://{tmp_path}/{name}", tmp_path / "copy", allowed(tmp_path)) == "unknown_source"


def test_an_unwritable_target_is_not_reported_as_a_fault_of_the_source(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"content")
    with pytest.raises(FileNotFoundError):
        allowed_locations.download(f"file://{tmp_path}/a.npz", tmp_path / "no folder" / "copy", 7, allowed(tmp_path))


def test_an_object_is_copied(s3_settings: Settings, tmp_path: Path) -> None:
    bucket = f"{s3_settings.storage}".removeprefix("s3://").partition("/")[0]
    httpx.put(f"{s3_settings.s3_endpoint}/{bucket}/in/a.npz", content=b"content").raise_for_status()
    settings = s3_settings.model_copy(update={"source_prefixes": [f"s3://{bucket}/in"]})
    allowed_locations.download(f"s3://{bucket}/in/a.npz", tmp_path / "copy", 7, settings)
    assert (tmp_path / "copy").read_bytes() == b"content"
    assert refused(f"s3://{bucket}/in/b.npz", tmp_path / "copy", settings) == "unknown_source"
    assert refused(f"s3://{bucket}/in/a.npz", tmp_path / "copy", settings, 6) == "too_large"
