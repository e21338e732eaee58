"""Models and their versions over HTTP."""

from service.runs import training
from service.runs.training import Origin
from service.shared.storage import Stored
from tests.conftest import Service
from tests.service.rows import claimed_run
from tests.service.steps import fault, problem


def add(service: Service, model: str, sha256: str) -> None:
    database = service.worker.database
    claim = claimed_run(database, service.project_id, model)
    with database.writer.begin() as session:
        assigned = training.assignment(session, claim)
        stored = Stored(service.project_id, sha256, 10)
        training.complete(session, assigned, stored, None, {"loss": 2.5}, None, [], Origin({"torch": "2"}, None))


def test_a_model_has_versions_with_their_config_and_lineage(service: Service) -> None:
    add(service, "faces", "a" * 64)
    add(service, "faces", "b" * 64)
    model = service.http.get("/v1/models/faces").json()
    assert (model["name"], model["latest_version"]) == ("faces", 2)
    version = service.http.get("/v1/models/faces/versions/2").json()
    assert (version["model"], version["version"], version["sha256"]) == ("faces", 2, "b" * 64)
    assert version["config"]["architecture"] == "mmvae"
    assert [modality["name"] for modality in version["config"]["modalities"]] == ["a"]
    assert version["lineage"]["dataset"] == "d"
    assert version["metrics"] == {"loss": 2.5}


def test_models_and_versions_are_listed_in_pages(service: Service) -> None:
    for n in range(3):
        add(service, "many", f"{n}" * 64)
    first = service.http.get("/v1/models/many/versions", params={"page_size": 2}).json()
    assert [found["version"] for found in first["versions"]] == [3, 2]
    token = first["next_page_token"]
    rest = service.http.get("/v1/models/many/versions", params={"page_size": 2, "page_token": token}).json()
    assert [found["version"] for found in rest["versions"]] == [1]
    assert rest["next_page_token"] is None
    assert "many" in [found["name"] for found in service.http.get("/v1/models").json()["models"]]


def test_an_unknown_model_or_version_is_not_found(service: Service) -> None:
    add(service, "known", "c" * 64)
    problem(service.http.get("/v1/models/unknown"), 404, "model_not_found")
    problem(service.http.get("/v1/models/unknown/versions"), 404, "model_not_found")
    problem(service.http.get("/v1/models/known/versions/9"), 404, "model_version_not_found")
    assert fault(service.http.get("/v1/models/known/versions/latest"))[0] == "version"
