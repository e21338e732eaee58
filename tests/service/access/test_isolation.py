"""Every operation of the OpenAPI document: without a key, with a key of another project, and with each scope."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.access import operations as access
from service.access.scopes import SCOPES, Scope
from service.shared.database import Database
from tests.conftest import Service
from tests.service.steps import dataset, pictures, problem, train

# Valid bodies of the operations; they refer to resources of the first project.
BODIES: dict[str, dict[str, Any]] = {
    "create_dataset": {"name": "copied", "source": {"upload": "UPLOAD"}},
    "create_run": {"dataset": {"name": "pictures"}, "model": "stolen"},
    "change_run": {"description": "mine"},
    "create_model_version": {"run": "RUN", "step": 1},
    "change_model": {"description": "mine"},
    "change_model_version": {"description": "mine"},
    "put_alias": {"version": 1},
    "create_api_key": {"name": "k", "scopes": ["admin"]},
    "create_project": {"name": "new"},
    "cancel_runs": {"all": True},
    "change_project": {"name": "stolen"},
    "encode": {"inputs": {"label": [1]}},
    "reconstruct": {"inputs": {"label": [1]}},
    "impute": {"inputs": {"label": [1]}},
    "score": {"inputs": {"label": [1]}},
    "forecast": {"inputs": {"label": [1]}},
    "sample": {"rows": 1},
}
INFERENCE = {"encode", "reconstruct", "impute", "score", "forecast", "sample"}
BODIES |= {f"{name}_by_alias": BODIES[name] for name in INFERENCE}
BODIES |= {"v2_index": {}, "v2_load": {}, "v2_unload": {}}
TENSOR = {"name": "label", "datatype": "INT64", "shape": [1], "data": [1]}
BODIES |= {"v2_infer": {"inputs": [TENSOR]}, "v2_infer_version": {"inputs": [TENSOR]}}
# Bodies that are files; their content does not matter here.
FILES = {"create_upload", "import_model"}
# Lists without a name in the path: with a foreign key they have nothing of the first project.
COLLECTIONS = {
    *FILES,
    "list_uploads",
    "list_datasets",
    "list_runs",
    "compare_runs",
    "cancel_runs",
    "list_models",
    "list_workers",
    "list_api_keys",
    "create_api_key",
    "list_projects",
    "list_audit_events",
    "whoami",
    "list_events",
    "v2_server",
    "v2_index",
    "v2_statistics",
}
# Liveness is public.
OPEN = {"v2_live", "v2_ready"}
ADMINISTRATION = {
    "v2_load",
    "v2_unload",
    "create_api_key",
    "list_api_keys",
    "get_api_key",
    "revoke_api_key",
    "create_project",
    "list_projects",
    "get_project",
    "change_project",
    "delete_project",
    "restore_project",
    "list_audit_events",
}
# Calls of operator projects on projects as a whole: others get 403, also with every scope.
OPERATORS = {"create_project", "delete_project", "restore_project"}
INFERENCE |= {f"{name}_by_alias" for name in INFERENCE}


@dataclass(frozen=True)
class Operation:
    name: str
    method: str
    path: str

    @property
    def scope(self) -> Scope | None:
        """The expected scope, written independently of the code. None: any key may call it."""
        if self.name == "whoami":
            return None
        if self.name in ADMINISTRATION:
            return "admin"
        if self.name in INFERENCE or self.name.startswith("v2_"):
            return "infer"
        return "read" if self.method == "get" else "write"


@dataclass(frozen=True)
class Installation:
    service: Service
    http: TestClient
    known: dict[str, str]
    operations: list[Operation]
    foreign: str
    by_scope: dict[str, str]

    def send(self, operation: Operation, key: str | None) -> Any:
        path, body = operation.path, BODIES.get(operation.name)
        for name, value in self.known.items():
            path = path.replace(f"{{{name}}}", value)
        filled = {field: self._filled(value) for field, value in (body or {}).items()}
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        content = {"content": b"PK"} if operation.name in FILES else {"json": filled if body else None}
        return self.http.request(operation.method, path, headers=headers, **content)  # type: ignore[arg-type]

    def _filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {field: self._filled(inner) for field, inner in value.items()}
        if value in ("UPLOAD", "RUN"):
            return self.known[f"{value.lower()}_id"]
        return value


@pytest.fixture(scope="module")
def installation(service: Service) -> Iterator[Installation]:
    """A project with one resource of each kind, a foreign key, and a key of every scope."""
    version = dataset(service, "pictures", **pictures())
    run = train(service, "pictures", "m")
    assert run["state"] == "succeeded"
    key = service.http.post("/v1/api-keys", json={"name": "victim"}).json()
    known = {
        "upload_id": version["source"]["upload"],
        "run_id": run["id"],
        "key_id": key["id"],
        "project_id": service.project_id,
        "step": "1",
        "version": "1",
        "checkpoint_id": "1",
        "alias": "live",
    }
    assert service.http.put("/v1/models/m/aliases/live", json={"version": 1}).status_code == 201
    document = service.http.get("/openapi.json").json()
    operations = [
        Operation(one["operationId"], method, path)
        for path, methods in document["paths"].items()
        for method, one in methods.items()
        if path.startswith(("/v1", "/v2")) and one["operationId"] not in OPEN
    ]
    database = Database(service.settings.database_url)
    with database.writer.begin() as session:
        _, foreign = access.create_key(session, access.create_project(session, "other").id, "k")
        by_scope = {scope: access.create_key(session, service.project_id, scope, [scope])[1] for scope in SCOPES}
    database.close()
    with TestClient(service.http.app, raise_server_exceptions=False) as http:
        yield Installation(service, http, known, operations, foreign, by_scope)


def named(installation: Installation, operation: Operation) -> Operation:
    """The same for a dataset or a model."""
    return Operation(
        operation.name,
        operation.method,
        operation.path.replace("{name}", "pictures" if "/datasets" in operation.path else "m"),
    )


def test_every_operation_is_known_here(installation: Installation) -> None:
    """A new operation has to be added to the expected scopes."""
    names = {operation.name for operation in installation.operations}
    assert len(names) == len(installation.operations)
    posting = {one.name for one in installation.operations if one.method in ("post", "put", "patch")}
    without_body = {"cancel_run", "pause_run", "resume_run", "retry_run", "restore_model", "restore_model_version"}
    without_body |= {"restore_dataset", "restore_dataset_version", "restore_project"}
    assert posting - without_body - FILES <= BODIES.keys()


def test_a_request_without_a_valid_key_is_refused_everywhere(installation: Installation) -> None:
    for operation in installation.operations:
        answer = installation.send(named(installation, operation), None)
        assert answer.status_code == 401, operation
        answer = installation.send(named(installation, operation), "sns_000000000000_guessed")
        assert answer.status_code == 401, operation


def test_a_foreign_key_finds_nothing(installation: Installation) -> None:
    before = installation.service.http.get("/v1/audit-events?page_size=1").json()["audit_events"][0]["id"]
    for operation in installation.operations:
        answer = installation.send(named(installation, operation), installation.foreign)
        if operation.name == "create_project":
            problem(answer, 403, "operator_required")
        elif operation.name in COLLECTIONS:
            assert answer.status_code in (200, 201, 202, 422), operation
            for ours in (*installation.known.values(), "pictures"):
                assert len(ours) == 1 or ours not in answer.text, operation
        else:
            assert answer.status_code == 404, (operation, answer.text)
            assert problem(answer, 404)["code"].endswith("not_found"), operation
    after = installation.service.http.get("/v1/audit-events?page_size=1").json()["audit_events"][0]["id"]
    assert after == before


@pytest.mark.parametrize("scope", SCOPES)
def test_a_key_can_call_only_the_operations_of_its_scopes(installation: Installation, scope: Scope) -> None:
    for operation in installation.operations:
        if operation.method == "delete" and operation.scope == scope:
            continue  # it would delete resources that other tests need
        answer = installation.send(named(installation, operation), installation.by_scope[scope])
        if operation.scope in (scope, None) and operation.name in OPERATORS:
            problem(answer, 403, "operator_required")
        elif operation.scope in (scope, None):
            assert answer.status_code not in (401, 403), (operation, answer.text)
            assert answer.status_code < 500, (operation, answer.text)
        else:
            refused = problem(answer, 403, "insufficient_scope")
            assert repr(operation.scope) in refused["detail"], operation
            assert f'scope="{operation.scope}"' in answer.headers["www-authenticate"], operation
