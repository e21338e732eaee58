"""The whole stack with artifacts in S3: upload, training and inference, also after the cache is deleted."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest

from service.shared.settings import Settings
from tests.e2e.stack import Caller
from tests.servers import free_port

pytestmark = pytest.mark.slow


def test_data_training_and_inference_work_from_a_bucket(s3_settings: Settings, tmp_path: Path) -> None:
    home, port = s3_settings.home, free_port()
    assert s3_settings.s3_secret_access_key is not None
    environment = {
        "SENSORIUM_STORAGE": f"{s3_settings.storage}",
        "SENSORIUM_S3_ENDPOINT": f"{s3_settings.s3_endpoint}",
        "SENSORIUM_S3_ACCESS_KEY_ID": f"{s3_settings.s3_access_key_id}",
        "SENSORIUM_S3_SECRET_ACCESS_KEY": s3_settings.s3_secret_access_key.get_secret_value(),
    }
    command = [sys.executable, "-m", "service.cli", "serve", "--home", str(home), "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        assert b"listens" in process.stdout.readline()
        caller = Caller(f"http://127.0.0.1:{port}", (home / "api-key").read_text().strip())
        caller.dataset("kept")
        for project in (home / "cache").iterdir():  # deleted copies are downloaded again
            shutil.rmtree(project, ignore_errors=project.name != "tmp")
        (home / "cache" / "tmp").mkdir(exist_ok=True)
        run = caller.wait_for_state(caller.submit("kept"), "succeeded", "failed")
        assert run["state"] == "succeeded", run
        caller.ask(run)
        version = caller.call("GET", f"/v1/models/{run['model']}/versions/{run['version']}")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0
    bucket = f"{s3_settings.storage}".removeprefix("s3://").partition("/")[0]
    listed = httpx.get(f"{s3_settings.s3_endpoint}/{bucket}?list-type=2").text
    assert version["sha256"] in listed
    assert not (home / "artifacts").exists()
    assert environment["SENSORIUM_S3_SECRET_ACCESS_KEY"] not in (tmp_path / "log").read_text()
