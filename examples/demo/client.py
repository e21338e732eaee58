"""The few HTTP calls that the demo makes."""

import io
import time
from typing import Any

import httpx2 as httpx
import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

POLL_SECONDS = 0.5
CONVERSION_SECONDS = 120


class DemoFailed(RuntimeError):
    """The service did not do what the demo asked for."""


class Client:
    """One project of one service."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def upload(self, arrays: dict[str, np.ndarray]) -> str:
        """Send arrays as one .npz file. Returns the upload's id."""
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **arrays)
        return str(self._call("POST", "/v1/uploads", content=file.getvalue())["id"])

    def dataset(self, name: str, upload: str, kind: str) -> dict[str, Any]:
        """Make a dataset of an upload and wait until a worker has converted it."""
        body = {"name": name, "source": {"upload": upload}, "schema": {"kind": kind}}
        version = self._call("POST", "/v1/datasets", json=body)
        deadline = time.monotonic() + CONVERSION_SECONDS
        while version["state"] == "validating":
            if time.monotonic() > deadline:
                raise DemoFailed(f"dataset {name} was not ready within {CONVERSION_SECONDS} s")
            time.sleep(POLL_SECONDS)
            version = self._call("GET", f"/v1/datasets/{name}/versions/{version['version']}")
        if version["state"] != "ready":
            raise DemoFailed(f"dataset {name} is {version['state']}: {version['detail']}")
        return version

    def train(self, dataset: str, model: str, **choices: Any) -> dict[str, Any]:
        """Submit a run and follow it with a progress bar until it has succeeded."""
        run = self._call("POST", "/v1/runs", json={"dataset": {"name": dataset}, "model": model, **choices})
        shown = ("{task.description}", BarColumn(bar_width=24), "{task.fields[epoch]}", "loss {task.fields[loss]}")
        columns = [TextColumn(part) if isinstance(part, str) else part for part in shown]
        with Progress(*columns, TimeElapsedColumn(), TextColumn("ETA {task.fields[eta]}")) as progress:
            bar = progress.add_task("", total=1.0, epoch="", loss="-", eta="-")
            while True:
                progress.update(
                    bar,
                    description=f"{dataset}: {run['state']}",
                    completed=run["progress"],
                    epoch=f"epoch {round(run['progress'] * run['training']['epochs'])}/{run['training']['epochs']}",
                    loss=_shown(run["metrics"].get("loss"), 2),
                    eta=_shown(run["eta_seconds"], 0) + " s",
                )
                if run["state"] not in ("queued", "running", "paused"):
                    break
                time.sleep(POLL_SECONDS)
                run = self._call("GET", f"/v1/runs/{run['id']}")
        if run["state"] != "succeeded":
            raise DemoFailed(f"run {run['id']} {run['state']}: {run['error']}")
        return run

    def encode(self, run: dict[str, Any], inputs: dict[str, Any]) -> np.ndarray:
        """Latent codes: the posterior means."""
        return np.array(self._infer(run, "encode", {"inputs": inputs})["mean"])

    def reconstruct(
        self, run: dict[str, Any], inputs: dict[str, Any], target: str, **sampling: int
    ) -> dict[str, np.ndarray]:
        """What the model says of one modality, given others. `sampling`: n_samples and seed."""
        answer = self._infer(run, "reconstruct", {"inputs": inputs, "targets": [target], **sampling})
        return {key: np.array(value) for key, value in answer["outputs"][target].items()}

    def impute(
        self, run: dict[str, Any], inputs: dict[str, Any], target: str, draws: int, seed: int = 1
    ) -> dict[str, np.ndarray]:
        """What a missing modality may be: its mean and interval, and joint draws of each row."""
        body = {"inputs": inputs, "targets": [target], "draws": draws, "seed": seed}
        answer = self._infer(run, "impute", body)
        return {key: np.array(value) for key, value in answer["completed"][target].items()}

    def _infer(self, run: dict[str, Any], operation: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._call("POST", f"/v1/models/{run['model']}/versions/{run['version']}/{operation}", json=body)

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        response = self._http.request(method, path, **request)
        if response.is_error:
            raise DemoFailed(f"{method} {path} answered {response.status_code}: {response.text[:500]}")
        answer: dict[str, Any] = response.json()
        return answer


def seconds_of(run: dict[str, Any]) -> float:
    """How long a run took, from the trainer's start to its end."""
    start, end = (np.datetime64(run[key].removesuffix("Z")) for key in ("started_at", "finished_at"))
    return float((end - start) / np.timedelta64(1, "s"))


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
