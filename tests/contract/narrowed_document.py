"""The OpenAPI document about existing resources: generated names would get 404, generated values fit no model."""

import copy
from typing import Any, NamedTuple

import numpy as np

from service.access import operations as access
from service.shared.database import Database
from tests.conftest import Service
from tests.contract.conftest import Document
from tests.service import steps
from tests.service.files import packed

Values = dict[str, list[Any]]

NULL = {"type": "null"}
# Shorter limits get 504, and longer requests only take time.
SECONDS = {"anyOf": [{"type": "number", "minimum": 20, "maximum": 600}, NULL]}
STATIC_MODEL, SEQUENCE_MODEL = "pictures", "tracks"
DATASET = "pictures"


class Resources(NamedTuple):
    """Values of path parameters by name: of resources to use, and of resources to delete."""

    kept: Values
    spare: Values


def resources(service: Service, key: str, spare_key: str) -> Resources:
    """A project with uploads, datasets, runs in two states, and models of samples and of sequences."""
    steps.dataset(service, DATASET, **steps.pictures())
    steps.dataset(service, SEQUENCE_MODEL, **steps.tracks())
    training = {"epochs": 2, "checkpoint_epochs": 1}
    run = steps.train(service, DATASET, STATIC_MODEL, training=training)
    version = steps.train(service, SEQUENCE_MODEL, SEQUENCE_MODEL)["version"]
    assert run["version"] == version == 1
    for model in (STATIC_MODEL, SEQUENCE_MODEL):
        assert service.http.put(f"/v1/models/{model}/aliases/live", json={"version": version}).status_code == 201
    checkpoints = service.http.get(f"/v1/runs/{run['id']}/checkpoints").json()["checkpoints"]
    kept = {
        "upload_id": [steps.upload(service, packed(x=np.zeros((2, 1), np.float32)))],
        "name": [STATIC_MODEL],
        "version": [version],
        "run_id": [run["id"], steps.queue_run(service, DATASET, STATIC_MODEL)["id"]],
        "step": [checkpoint["step"] for checkpoint in checkpoints],
        "key_id": [key],
        "project_id": [_project(service, "tenant")],
        "alias": ["live"],
        "code": ["invalid_input", "not_found"],
    }
    return Resources(kept, _spare(service, spare_key))


def _spare(service: Service, key: str) -> Values:
    steps.dataset(service, "spare", **steps.pictures())
    run = steps.queue_run(service, "spare", "spare")["id"]
    service.http.post(f"/v1/runs/{run}/cancel")
    uploads = [steps.upload(service, packed(x=np.zeros((2, 1), np.float32))) for _ in range(2)]
    ids = {"upload_id": uploads, "run_id": [run], "key_id": [key], "project_id": [_project(service, "spare")]}
    return {**ids, "name": ["spare"], "version": [1], "alias": ["live"]}


def _project(service: Service, name: str) -> str:
    """A project of its own: generated quotas would stop the other requests."""
    database = Database(service.settings.database_url)
    with database.writer.begin() as session:
        project_id = access.create_project(session, name).id
    database.close()
    return project_id


def about(found: Resources, document: Document) -> Document:
    """The document with these resources as the only values of path parameters, and without `wait`.

    No worker runs: a generated wait would last as long as the service allows. `tests/service/events` tests it.
    """
    narrowed = copy.deepcopy(document)
    for operations in narrowed["paths"].values():
        for method, operation in operations.items():
            values = found.spare if method == "delete" else found.kept
            if operation["operationId"].startswith("forecast"):
                values = {**values, "name": [SEQUENCE_MODEL]}
            parameters = [one for one in operation.get("parameters", []) if one["name"] != "wait"]
            operation["parameters"] = parameters
            for parameter in parameters:
                known = values.get(parameter["name"], [])
                if parameter["in"] == "path" and known:
                    as_text = parameter["schema"]["type"] == "string"
                    parameter["schema"]["enum"] = [str(value) for value in known] if as_text else known
    return narrowed


def accepted(found: Resources, document: Document) -> Document:
    """The same with bodies that refer to these resources, and fit their models.

    For requests that should be accepted: what only this document forbids is accepted as well.
    """
    narrowed = about(found, document)
    for operations in narrowed["paths"].values():
        for operation in operations.values():
            content = operation.get("requestBody", {}).get("content", {})
            if operation["operationId"].startswith("v2_infer"):
                _narrow_tensors(content["application/json"]["schema"])
    _narrow_bodies(narrowed["components"]["schemas"], found.kept)
    return narrowed


def _narrow_bodies(schemas: dict[str, Document], values: Values) -> None:
    number, step = {"type": "number", "minimum": -100, "maximum": 100}, {"minItems": 2, "maxItems": 2}
    pair = {"type": "array", "items": number, **step}
    image = {"type": "array", "items": {"type": "array", "items": pair, **step}, **step}
    label = {"type": "array", "items": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 2}, NULL]}, **step}
    track = {"type": "array", "items": {"type": "array", "items": pair, **step}, **step}
    for name in ("EncodeRequest", "ReconstructRequest", "ScoreRequest"):
        _narrow_rows(schemas[name], {"image": image, "label": label})
    _narrow_rows(schemas["ImputeRequest"], {"image": image})
    schemas["ImputeRequest"]["properties"]["targets"]["anyOf"][0]["items"] = {"enum": ["label"]}
    schemas["ImputeRequest"]["properties"]["draws"]["maximum"] = 0  # draws need a conditional part
    _narrow_rows(schemas["ForecastRequest"], {"x": track})
    schemas["ForecastRequest"]["properties"]["horizon"]["maximum"] = 10
    drawn = schemas["SampleRequest"]
    drawn.pop("examples")
    drawn["properties"]["rows"]["maximum"] = 10
    drawn["properties"]["steps"]["maximum"] = 0
    drawn["properties"]["timeout_seconds"] = SECONDS
    # Copies, because the answers have these schemas too.
    for request, field, schema, name, known in (
        ("RunRequest", "dataset", "DatasetReference", "name", [DATASET]),
        ("DatasetRequest", "source", "UploadSource", "upload", values["upload_id"]),
    ):
        narrowed = copy.deepcopy(schemas[schema])
        narrowed["properties"][name]["enum"] = known
        schemas[request]["properties"][field] = narrowed
    schemas["VersionRequest"]["properties"]["run"]["enum"] = values["run_id"]


def _narrow_rows(schema: Document, inputs: Document) -> None:
    schema.pop("examples")  # of another model
    properties = schema["properties"]
    properties["inputs"] = {
        "type": "object",
        "properties": inputs,
        "required": [next(iter(inputs))],  # a row without any modality is refused
        "additionalProperties": False,
    }
    properties.pop("state", None)  # of models that take sequences in pieces
    properties["timeout_seconds"] = SECONDS
    if "targets" in properties:
        properties["targets"]["anyOf"][0]["items"] = {"enum": [*inputs]}
    if "n_samples" in properties:
        properties["n_samples"]["maximum"] = 10


def _narrow_tensors(schema: Document) -> None:
    """Narrow a body of the Open Inference Protocol to inputs whose shapes fit their data."""
    schema.pop("examples")  # of another model
    image = {"name": "image", "datatype": "FP32", "shape": [1, 2, 2], "data": [0.5, 1.0, 1.5, 2.0]}
    label = {"name": "label", "datatype": "INT64", "shape": [1], "data": [2]}
    schema["properties"]["inputs"] = {"enum": [[image], [label], [image, label]]}
