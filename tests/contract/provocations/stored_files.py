"""Damages stored files, and lets an API use a bucket."""

from collections.abc import Mapping
from pathlib import Path

import httpx2 as httpx
from pydantic import SecretStr

from service.shared.s3 import Bucket
from service.shared.settings import Settings
from tests.contract.error_target import Answer, Target
from tests.contract.provocations import valid_request
from tests.contract.provocations.case import Case

BUCKET = "s3://artifacts"
SECRET = "secret-of-the-bucket"


def damage(folder: Path) -> None:
    """Change a byte of every file."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        content = bytearray(path.read_bytes())
        content[-1] ^= 0xFF
        path.write_bytes(content)


def range_behind_the_end(target: Target, case: Case) -> Answer:
    """A part of a file that begins after its end."""
    return valid_request.send(target, case, headers={"Range": "bytes=99999999-"})


def in_bucket(endpoint: str) -> Mapping[str, str]:
    """The settings of an API that stores its files in a bucket."""
    return {
        "SENSORIUM_STORAGE": BUCKET,
        "SENSORIUM_S3_ENDPOINT": endpoint,
        "SENSORIUM_S3_ACCESS_KEY_ID": "test",
        "SENSORIUM_S3_SECRET_ACCESS_KEY": SECRET,
    }


def put_all(endpoint: str, folder: Path) -> None:
    """Put all files of a folder into the bucket."""
    httpx.put(f"{endpoint}/{BUCKET.removeprefix('s3://')}").raise_for_status()
    settings = Settings(s3_endpoint=endpoint, s3_access_key_id="test", s3_secret_access_key=SecretStr(SECRET))
    bucket = Bucket(BUCKET, settings)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        bucket.put(str(path.relative_to(folder)), path)
