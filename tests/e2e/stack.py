"""A client of a running stack, and small data that trains in one second."""

import io
from typing import Any

import httpx2 as httpx
import numpy as np

from tests.conftest import wait_until

ROWS = 200
TRAINING = {"epochs": 3, "batch_size": 32}
FINAL = ("succeeded", "failed", "cancelled")


def arrays() -> dict[str, np.ndarray]:
    """Two related modalities; the second one is missing in some rows."""
    generator = np.random.default_rng(0)
    audio = generator.normal(size=(ROWS, 3)).astype(np.float32)
    text = (audio.sum(axis=1) > 0).astype(np.int64)
    return {"audio": audio, "text": text, "text.present": generator.random(ROWS) < 0.8}


class Caller:
    """An HTTP client with one API key."""

    def __init__(self, url: str, key: str) -> None:
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30)

    def call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """The JSON of the response; fails the test on an error."""
        response = self.http.request(method, path, **request)
        assert response.is_success, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def dataset(self, name: str) -> None:
        """Upload the small data and wait until it is ready."""
        file = io.BytesIO()
        np.savez(file, **arrays())
        upload = self.call("POST", "/v1/uploads", content=file.getvalue())
        version = self.call("POST", "/v1/datasets", json={"name": name, "source": {"upload": upload["id"]}})
        path = f"/v1/datasets/{name}/versions/{version['version']}"
        wait_until(lambda: self.call("GET", path)["state"] == "ready", 60, f"{name} ready")

    def submit(self, dataset: str, **training: Any) -> str:
        """Queue a run. Returns its id."""
        body = {"dataset": {"name": dataset}, "model": dataset, "training": TRAINING | training}
        return str(self.call("POST", "/v1/runs", json=body)["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        """The run's representation."""
        return self.call("GET", f"/v1/runs/{run_id}")

    def wait_for_state(self, run_id: str, *states: str) -> dict[str, Any]:
        """The run, once it is in one of the states."""
        wait_until(lambda: self.run(run_id)["state"] in states, 90, f"{run_id} in {states}")
        return self.run(run_id)

    def ask(self, run: dict[str, Any]) -> None:
        """Reconstruct and impute rows with different subsets of modalities in one request."""
        path = f"/v1/models/{run['model']}/versions/{run['version']}"
        inputs = {"audio": [[1, 1, 1], None, [0, 0, 0]], "text": [None, 1, 0]}
        codes = self.call("POST", f"{path}/encode", json={"inputs": inputs})
        assert np.array(codes["mean"]).shape == (3, run["architecture"]["latent_features"])
        answer = self.call("POST", f"{path}/reconstruct", json={"inputs": inputs, "targets": ["text"]})
        probabilities = np.array(answer["outputs"]["text"]["probabilities"])
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
