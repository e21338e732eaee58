"""A run that fails twice at the same step with the same error is not retried again; its error says so."""

import os
import re
from pathlib import Path

import pytest

from tests.conftest import Service
from tests.service.steps import dataset, pictures, train

# An installed network whose encoder fails in its sixth step.
MODULE = """
from torch import nn
from models.networks import Network, mlp
from models.config import MLPConfig

class Breaking(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, value):
        self.calls += self.training
        if self.calls > 5:
            raise IndexError("index 7 is out of bounds for size 7")
        return self.inner(value)

def encoder(config, modality, out_features):
    return Breaking(mlp.encoder(MLPConfig(), modality, out_features))

def decoder(config, in_features, shape):
    return mlp.decoder(MLPConfig(), in_features, shape)

network = Network(encoder, decoder)
"""


@pytest.fixture
def breaking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of that network, in this process and its child processes."""
    (tmp_path / "breaking.py").write_text(MODULE)
    information = tmp_path / "breaking-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: breaking\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[sensorium.networks]\nbreaking = breaking:network\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return "breaking"


@pytest.mark.slow
def test_a_training_that_breaks_twice_at_the_same_step_is_not_tried_a_third_time(
    service: Service, breaking: str
) -> None:
    dataset(service, "pictures", **pictures())
    architecture = {
        "architecture": "mmvae",
        "modalities": {"image": {"network": {"name": breaking}}},
    }
    run = train(service, "pictures", "pictures", architecture=architecture, max_attempts=5)
    assert (run["state"], run["attempt"], run["failures"]) == ("failed", 2, 2)
    assert run["error"]["code"] == "repeated_fault"
    detail = run["error"]["detail"]
    reference = re.fullmatch(
        "the program failed after 5 of 6 steps: the log of the job has the traceback under reference ([0-9a-f]{8}); "
        "attempt 1 failed in the same way, so it is not tried again",
        detail,
    )
    assert reference is not None, detail
    log = service.http.get(f"/v1/runs/{run['id']}/logs?part=all").text
    assert log.count("IndexError: index 7 is out of bounds for size 7") == 2
    assert log.count(reference[1]) == 2
    events = service.http.get(f"/v1/runs/{run['id']}/events").json()["events"]
    failed = [event["data"]["state"] for event in events if event["type"] == "attempt_failed"]
    assert failed == ["queued", "failed"]
    again = service.http.post(f"/v1/runs/{run['id']}/retry")
    assert again.status_code == 201
    assert again.json()["state"] == "queued"
    service.http.post(f"/v1/runs/{again.json()['id']}/cancel")
