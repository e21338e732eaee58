"""What is said about models and versions changes, and they can be deleted, restored and purged."""

import pytest

from service.shared.storage import sweep
from tests.conftest import Service
from tests.service.steps import dataset, pictures, problem, train

ASK = {"inputs": {"label": [1]}}


@pytest.fixture(scope="module")
def versions(service: Service) -> Service:
    """A service with a dataset to train on."""
    dataset(service, "pictures", **pictures())
    return service


def made(service: Service, model: str, count: int) -> str:
    """The path of a model with so many versions."""
    for _ in range(count):
        assert train(service, "pictures", model)["state"] == "succeeded"
    return f"/v1/models/{model}"


def numbers(service: Service, model: str, **query: str) -> list[int]:
    return [one["version"] for one in service.http.get(f"{model}/versions", params=query).json()["versions"]]


def names(service: Service, **query: str) -> list[str]:
    return [one["name"] for one in service.http.get("/v1/models", params=query).json()["models"]]


def test_tags_and_descriptions_change_and_nothing_else_does(versions: Service) -> None:
    model = made(versions, "described", 1)
    for path in (model, f"{model}/versions/1"):
        before = versions.http.get(path).json()
        assert (before["tags"], before["description"]) == ([], None)
        after = versions.http.patch(path, json={"tags": ["a", "b", "a"], "description": "both"}).json()
        assert after == {**before, "tags": ["a", "b"], "description": "both"}
        assert versions.http.patch(path, json={"description": None}).json()["tags"] == ["a", "b"]
        assert versions.http.patch(path, json={"config": {}}).status_code == 422
    problem(versions.http.patch("/v1/models/none", json={"tags": []}), 404, "model_not_found")


def test_a_version_tells_its_signature_evaluation_and_lineage(versions: Service) -> None:
    found = versions.http.get(made(versions, "told", 1) + "/versions/1").json()
    assert found["signature"]["inputs"] == [
        {
            "name": "image",
            "dtype": "float32",
            "shape": [-1, 2, 2],
            "optional": True,
            "likelihood": "gaussian",
            "categories": None,
        },
        {
            "name": "label",
            "dtype": "int64",
            "shape": [-1],
            "optional": True,
            "likelihood": "categorical",
            "categories": 3,
        },
    ]
    assert found["signature"]["latent_features"] == found["config"]["latent_features"]
    run = versions.http.get(f"/v1/runs/{found['lineage']['run']}").json()
    assert found["evaluation"] == versions.http.get(f"/v1/runs/{run['id']}/evaluation").json()
    assert found["lineage"]["training"] == run["training"]
    assert found["lineage"]["libraries"].keys() >= {"torch", "sensorium", "numpy"}
    assert len(found["lineage"]["git_revision"] or "0" * 40) == 40


def test_a_deleted_version_is_out_of_use_until_it_is_restored(versions: Service) -> None:
    model = made(versions, "kept", 2)
    assert versions.http.delete(f"{model}/versions/2").status_code == 204
    assert numbers(versions, model) == [1]
    assert numbers(versions, model, deleted="true") == [2]
    assert versions.http.get(model).json()["latest_version"] == 1
    problem(versions.http.post(f"{model}/versions/2/encode", json=ASK), 404, "model_version_not_found")
    problem(versions.http.put(f"{model}/aliases/live", json={"version": 2}), 404, "model_version_not_found")
    assert versions.http.get(f"{model}/versions/2").json()["deleted_at"] is not None
    assert versions.http.post(f"{model}/versions/2/restore").json()["deleted_at"] is None
    assert numbers(versions, model) == [2, 1]
    assert versions.http.post(f"{model}/versions/2/encode", json=ASK).status_code == 200


def test_a_purged_version_is_gone_with_its_file_and_its_number_is_not_used_again(versions: Service) -> None:
    model = made(versions, "purged", 2)
    sha256 = versions.http.get(f"{model}/versions/2").json()["sha256"]
    path = versions.settings.artifacts / versions.project_id / sha256
    assert path.exists()
    assert versions.http.delete(f"{model}/versions/2", params={"purge": True}).status_code == 204
    sweep(versions.worker.database, versions.worker.storage)
    problem(versions.http.get(f"{model}/versions/2"), 404, "model_version_not_found")
    problem(versions.http.post(f"{model}/versions/2/restore"), 404, "model_version_not_found")
    made(versions, "purged", 1)
    assert numbers(versions, model) == [3, 1]


def test_a_deleted_model_comes_back_by_itself_or_with_its_next_version(versions: Service) -> None:
    model = made(versions, "gone", 1)
    assert versions.http.put(f"{model}/aliases/live", json={"version": 1}).status_code == 201
    assert versions.http.delete(model).status_code == 204
    assert "gone" not in names(versions)
    assert "gone" in names(versions, deleted="true")
    problem(versions.http.post(f"{model}/versions/1/encode", json=ASK), 404, "model_version_not_found")
    problem(versions.http.post(f"{model}/aliases/live/encode", json=ASK), 404, "alias_not_found")
    restored = versions.http.post(f"{model}/restore").json()
    assert (restored["deleted_at"], restored["aliases"], restored["latest_version"]) == (None, {}, 1)
    assert versions.http.delete(model).status_code == 204
    made(versions, "gone", 1)
    assert numbers(versions, model) == [2, 1]


def test_a_purged_model_leaves_its_name_free(versions: Service) -> None:
    model = made(versions, "renewed", 2)
    assert versions.http.put(f"{model}/aliases/live", json={"version": 1}).status_code == 201
    assert versions.http.delete(model, params={"purge": True}).status_code == 204
    problem(versions.http.get(model), 404, "model_not_found")
    made(versions, "renewed", 1)
    assert numbers(versions, model) == [1]
