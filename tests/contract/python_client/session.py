"""`python session.py URL KEY FILE`: the README's session with a generated client. It prints what it got as JSON."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sensorium_client import models
from sensorium_client.api.datasets import create_dataset, create_upload, get_dataset_version
from sensorium_client.api.inference import encode, reconstruct
from sensorium_client.api.runs import create_run, get_run
from sensorium_client.client import AuthenticatedClient
from sensorium_client.types import File

POLL_SECONDS = 0.1
Body = TypeVar("Body")


def succeeded(body: Body | models.Problem | None) -> Body:
    """The body of an answer. Raises ValueError if it is a problem."""
    if body is None or isinstance(body, models.Problem):
        raise ValueError(f"the answer is {body}")
    return body


def wait_for(ask: Callable[[], Body | models.Problem | None], condition: Callable[[Body], bool]) -> Body:
    """The first answer for which the condition holds."""
    while not condition(body := succeeded(ask())):
        time.sleep(POLL_SECONDS)
    return body


def main(url: str, key: str, file: str) -> None:
    """Upload a file, make a dataset, train, and ask the model."""
    client = AuthenticatedClient(base_url=url, token=key)
    with Path(file).open("rb") as content:
        upload = succeeded(create_upload.sync(client=client, body=File(payload=content)))

    source = models.UploadSource(upload=upload.id)
    requested = models.DatasetRequest(name="digits", source=source)
    dataset = succeeded(create_dataset.sync(client=client, body=requested))
    version = wait_for(
        lambda: get_dataset_version.sync(dataset.dataset, dataset.version, client=client),
        lambda version: version.state != models.DatasetVersionState.VALIDATING,
    )

    training = models.TrainingConfig(epochs=1)
    request = models.RunRequest(dataset=models.DatasetReference(name="digits"), model="digits", training=training)
    queued = succeeded(create_run.sync(client=client, body=request))
    run = wait_for(
        lambda: get_run.sync(queued.id, client=client),
        lambda run: run.state not in (models.RunState.QUEUED, models.RunState.RUNNING),
    )
    if run.version is None:
        raise ValueError(f"the run ended as {run.state}: {run.error}")

    labels = models.ReconstructRequestInputs()
    labels["label"] = [0, 2]
    ask = models.ReconstructRequest(inputs=labels, targets=["image"])
    images = succeeded(reconstruct.sync(run.model, run.version, client=client, body=ask))
    rows = models.EncodeRequestInputs()
    rows["image"] = [[[0, 0], [0, 0]], None]
    rows["label"] = [None, 1]
    codes = succeeded(encode.sync(run.model, run.version, client=client, body=models.EncodeRequest(inputs=rows)))

    nobody = get_run.sync("run_of_nobody", client=client)
    found = {
        "format": upload.format_,
        "arrays": [array.name for array in upload.arrays],
        "dataset": {"state": version.state, "rows": version.rows},
        "run": run.state,
        "mean": images.outputs["image"]["mean"],
        "codes": codes.mean,
        "problem": nobody.code if isinstance(nobody, models.Problem) else None,
    }
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
