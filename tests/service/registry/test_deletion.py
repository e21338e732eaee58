"""Changes, deletion, restoration and purge of models and versions."""

from sqlalchemy import select, update

import models
from models.config import TrainingConfig, parse
from service.lineage import expiry
from service.registry.tables import Model, ModelVersion
from service.shared.database import now
from service.shared.storage import sweep
from tests.conftest import Service
from tests.service.steps import dataset, pictures, problem, train
from tests.service.trained import install

DAY = 86_400.0
ASK = {"inputs": {"label": [1]}}


def made(service: Service, model: str, count: int) -> str:
    """The path of a model with this number of versions."""
    for seed in range(count):
        install(service, model, "pictures", seed)
    return f"/v1/models/{model}"


def numbers(service: Service, model: str, **query: str) -> list[int]:
    return [one["version"] for one in service.http.get(f"{model}/versions", params=query).json()["versions"]]


def names(service: Service, **query: str) -> list[str]:
    return [one["name"] for one in service.http.get("/v1/models", params=query).json()["models"]]


def test_only_tags_and_descriptions_can_be_changed(service: Service) -> None:
    model = made(service, "described", 1)
    for path in (model, f"{model}/versions/1"):
        before = service.http.get(path).json()
        assert (before["tags"], before["description"]) == ([], None)
        after = service.http.patch(path, json={"tags": ["a", "b", "a"], "description": "both"}).json()
        assert after == {**before, "tags": ["a", "b"], "description": "both"}
        assert service.http.patch(path, json={"description": None}).json()["tags"] == ["a", "b"]
        assert service.http.patch(path, json={"config": {}}).status_code == 422
    problem(service.http.patch("/v1/models/none", json={"tags": []}), 404, "model_not_found")


def test_a_version_has_its_signature_evaluation_and_lineage(service: Service) -> None:
    dataset(service, "pictures", **pictures())
    assert train(service, "pictures", "told")["state"] == "succeeded"
    found = service.http.get("/v1/models/told/versions/1").json()
    assert found["signature"]["inputs"] == [
        {
            "name": "image",
            "dtype": "float32",
            "shape": [-1, 2, 2],
            "optional": True,
            "likelihood": "gaussian",
            "categories": None,
            "category_names": None,
        },
        {
            "name": "label",
            "dtype": "int64",
            "shape": [-1],
            "optional": True,
            "likelihood": "categorical",
            "categories": 3,
            "category_names": None,
        },
    ]
    assert found["signature"]["latent_features"] == found["config"]["latent_features"]
    run = service.http.get(f"/v1/runs/{found['lineage']['run']}").json()
    assert found["evaluation"] == service.http.get(f"/v1/runs/{run['id']}/evaluation").json()
    assert found["lineage"]["training"] == run["training"]
    assert found["lineage"]["libraries"].keys() >= {"torch", "sensorium", "numpy"}
    assert len(found["lineage"]["git_revision"] or "0" * 40) == 40
    model, training = models.build(parse(found["config"])), TrainingConfig.model_validate(run["training"])
    assert found["lineage"]["kernels"] == [one._asdict() for one in models.explain(model, "cpu", training)]


def test_a_deleted_version_is_out_of_use_until_it_is_restored(service: Service) -> None:
    model = made(service, "kept", 2)
    assert service.http.delete(f"{model}/versions/2").status_code == 204
    assert numbers(service, model) == [1]
    assert numbers(service, model, deleted="true") == [2]
    assert service.http.get(model).json()["latest_version"] == 1
    problem(service.http.post(f"{model}/versions/2/encode", json=ASK), 404, "model_version_not_found")
    problem(service.http.put(f"{model}/aliases/live", json={"version": 2}), 404, "model_version_not_found")
    assert service.http.get(f"{model}/versions/2").json()["deleted_at"] is not None
    assert service.http.post(f"{model}/versions/2/restore").json()["deleted_at"] is None
    assert numbers(service, model) == [2, 1]
    assert service.http.post(f"{model}/versions/2/encode", json=ASK).status_code == 200


def test_a_purged_version_is_gone_with_its_file_and_its_number_is_not_used_again(service: Service) -> None:
    model = made(service, "purged", 2)
    sha256 = service.http.get(f"{model}/versions/2").json()["sha256"]
    path = service.settings.artifacts / service.project_id / sha256
    assert path.exists()
    assert service.http.delete(f"{model}/versions/2", params={"purge": True}).status_code == 204
    sweep(service.worker.database, service.worker.storage)
    problem(service.http.get(f"{model}/versions/2"), 404, "model_version_not_found")
    problem(service.http.post(f"{model}/versions/2/restore"), 404, "model_version_not_found")
    made(service, "purged", 1)
    assert numbers(service, model) == [3, 1]


def test_a_deleted_model_is_restored_explicitly_or_by_its_next_version(service: Service) -> None:
    model = made(service, "gone", 1)
    assert service.http.put(f"{model}/aliases/live", json={"version": 1}).status_code == 201
    assert service.http.delete(model).status_code == 204
    assert "gone" not in names(service)
    assert "gone" in names(service, deleted="true")
    problem(service.http.post(f"{model}/versions/1/encode", json=ASK), 404, "model_version_not_found")
    problem(service.http.post(f"{model}/aliases/live/encode", json=ASK), 404, "alias_not_found")
    restored = service.http.post(f"{model}/restore").json()
    assert (restored["deleted_at"], restored["aliases"], restored["latest_version"]) == (None, {}, 1)
    assert service.http.delete(model).status_code == 204
    made(service, "gone", 1)
    assert numbers(service, model) == [2, 1]


def test_a_purged_model_leaves_its_name_free(service: Service) -> None:
    model = made(service, "renewed", 2)
    assert service.http.put(f"{model}/aliases/live", json={"version": 1}).status_code == 201
    assert service.http.delete(model, params={"purge": True}).status_code == 204
    problem(service.http.get(model), 404, "model_not_found")
    made(service, "renewed", 1)
    assert numbers(service, model) == [1]


def test_models_and_versions_that_were_deleted_long_ago_are_purged(service: Service) -> None:
    whole, one, recent = made(service, "whole", 2), made(service, "one", 2), made(service, "recent", 1)
    service.http.delete(f"{one}/versions/1")
    for path in (whole, recent):
        service.http.delete(path)
    with service.worker.database.writer.begin() as session:
        session.execute(update(Model).where(Model.name == "whole").values(deleted_at=now(-2 * DAY)))
        of_one = select(Model.id).where(Model.name == "one").scalar_subquery()
        marked = ModelVersion.deleted_at.is_not(None), ModelVersion.model_id == of_one
        session.execute(update(ModelVersion).where(*marked).values(deleted_at=now(-2 * DAY)))
        expiry.purge(session, days=1)
    assert "recent" in names(service, deleted="true")
    problem(service.http.get(whole), 404, "model_not_found")
    problem(service.http.get(f"{one}/versions/1"), 404, "model_version_not_found")
    assert numbers(service, one) == [2]
