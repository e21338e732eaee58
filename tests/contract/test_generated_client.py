"""A client generated from the OpenAPI document runs the session of the README."""

import importlib
import io
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.conftest import Service
from tests.contract.conftest import Document, Served
from tests.service import steps
from tests.service.files import packed

PACKAGE = "sensorium_client"


@pytest.fixture(scope="module")
def generated(document: Document, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a generated package, and the output of the generator."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(json.dumps(document))
    # It formats the code with ruff by default; its format does not matter here.
    (folder / "config.json").write_text(json.dumps({"post_hooks": []}))
    command = [Path(sys.executable).with_name("openapi-python-client"), "generate", "--meta", "none"]
    command += ["--path", "openapi.json", "--output-path", PACKAGE, "--config", "config.json"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return folder, done.stdout


@pytest.fixture
def package(generated: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The generated package, where `import` finds it."""
    monkeypatch.syspath_prepend(generated[0])
    return PACKAGE


def test_the_generator_understands_every_operation(generated: tuple[Path, str], document: Document) -> None:
    folder, said = generated
    assert "WARNING" not in said.upper(), said
    assert "unable" not in said.lower(), said
    made = {path.stem for path in (folder / PACKAGE / "api").glob("*/*.py")} - {"__init__"}
    assert made == {one["operationId"] for operations in document["paths"].values() for one in operations.values()}


def test_the_generated_client_runs_the_session_of_the_readme(package: str, service: Service, served: Served) -> None:
    models, types = importlib.import_module(f"{package}.models"), importlib.import_module(f"{package}.types")
    client = importlib.import_module(f"{package}.client").AuthenticatedClient(base_url=served.url, token=served.key)

    def api(name: str) -> ModuleType:
        return importlib.import_module(f"{package}.api.{name}")

    arrays = steps.pictures() | {"label.present": np.random.default_rng(0).random(100) < 0.8}
    file = types.File(payload=io.BytesIO(packed(**arrays)))
    upload = api("datasets.create_upload").sync(client=client, body=file)
    assert isinstance(upload, models.Upload), upload
    assert upload.format_ == models.UploadFormat.NPZ
    assert {array.name for array in upload.arrays} == set(arrays)

    source = models.UploadSource(upload=upload.id)
    request = models.DatasetRequest(name="digits", source=source)
    queued = api("datasets.create_dataset").sync(client=client, body=request)
    assert isinstance(queued, models.DatasetVersion), queued
    service.work("data")
    version = api("datasets.get_dataset_version").sync("digits", queued.version, client=client)
    assert version.state == models.DatasetVersionState.READY, version
    assert version.rows == 100

    request = models.RunRequest(
        dataset=models.DatasetReference(name="digits"), model="digits", training=models.TrainingConfig(epochs=1)
    )
    run = api("runs.create_run").sync(client=client, body=request)
    assert isinstance(run, models.Run), run
    service.work("train")
    run = api("runs.get_run").sync(run.id, client=client)
    assert run.state == models.RunState.SUCCEEDED, run

    ask = models.ReconstructReconstructRequest.from_dict({"inputs": {"label": [0, 2]}, "targets": ["image"]})
    image = api("inference.reconstruct").sync("digits", run.version, client=client, body=ask).outputs["image"]
    assert np.shape(image["mean"]) == (2, 2, 2)
    body = models.EncodeStreamedRequest.from_dict(
        {"inputs": {"image": [np.zeros((2, 2)).tolist(), None], "label": [None, 1]}}
    )
    codes = api("inference.encode").sync("digits", run.version, client=client, body=body)
    assert isinstance(codes, models.EncodeResponse), codes
    assert np.shape(codes.mean) == np.shape(codes.standard_deviation)
    assert len(codes.mean) == 2

    nobody = api("runs.get_run").sync("run_of_nobody", client=client)
    assert isinstance(nobody, models.Problem)
    assert nobody.code == "run_not_found"
