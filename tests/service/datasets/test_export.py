"""A downloaded dataset makes the same dataset when it is uploaded again."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from service.datasets.tables import DatasetVersion
from tests.conftest import Service
from tests.service.files import Array
from tests.service.steps import dataset, problem, queue_dataset, tracks, upload

FORMATS = ("npz", "parquet", "jsonl")


def static() -> dict[str, Array]:
    generator = np.random.default_rng(3)
    label = generator.integers(0, 3, 50)
    return {
        "image": generator.normal(size=(50, 2, 3)).astype(np.float32),
        "image.present": generator.random(50) < 0.7,
        "age": generator.normal(size=50).astype(np.float32),
        "label": label,
        "person": np.array([f"row {row} ä" for row in range(50)]),
        "fold": np.array(["train", "valid", "test", "train", "train"] * 10),
    }


def sequences() -> dict[str, Array]:
    arrays = tracks()
    mask = np.random.default_rng(0).random(arrays["x"].shape[:2]) < 0.8
    mask[:, 0] = True
    return arrays | {"x.present": mask}


DATA: dict[str, tuple[dict[str, Any], dict[str, Array]]] = {
    "static": ({"ids": "person", "split": {"column": "fold"}}, static()),
    "sequence": ({"kind": "sequence"}, sequences()),
}


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("format", FORMATS)
def test_a_download_makes_the_same_dataset_again(service: Service, kind: str, format: str) -> None:
    declared, arrays = DATA[kind]
    first = dataset(service, f"first-{kind}-{format}", declared, **arrays)
    assert first["state"] == "ready", first
    path = f"/v1/datasets/first-{kind}-{format}/versions/1/content"
    answer = service.http.get(path, params={"format": format})
    assert answer.status_code == 200, answer.text
    body = {"name": f"second-{kind}-{format}", "source": {"upload": upload(service, answer.content)}}
    assert service.http.post("/v1/datasets", json=body).status_code == 201
    service.work("data")
    second = service.http.get(f"/v1/datasets/second-{kind}-{format}/versions/1").json()
    assert (second["state"], second["detail"]) == ("ready", None)
    assert (second["sha256"], second["schema"]) == (first["sha256"], first["schema"])
    assert "own_schema" in [warning["code"] for warning in second["warnings"]]


def test_the_stored_file_is_served_in_ranges(service: Service) -> None:
    version = dataset(service, "stored", **{"x": np.arange(6.0)})
    path = "/v1/datasets/stored/versions/1/content?format=stored"
    whole = service.http.get(path)
    assert len(whole.content) == version["size_bytes"]
    assert 'filename="stored-1.safetensors"' in whole.headers["content-disposition"]
    part = service.http.get(path, headers={"Range": "bytes=8-15"})
    assert (part.status_code, part.content) == (206, whole.content[8:16])


def test_an_npz_of_sequences_is_padded_and_has_their_lengths(service: Service) -> None:
    dataset(service, "padded", {"kind": "sequence"}, **tracks())
    content = service.http.get("/v1/datasets/padded/versions/1/content?format=npz").content
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        lengths, x = arrays["x.lengths"], arrays["x"]
        assert (lengths == tracks()["x.lengths"]).all()
        assert (x[0, : lengths[0]] == tracks()["x"][0, : lengths[0]]).all()


def test_a_dataset_that_is_not_ready_has_no_preview_and_no_content(service: Service) -> None:
    queue_dataset(service, "waiting", x=np.arange(6.0))
    for part in ("preview", "content"):
        answer = service.http.get(f"/v1/datasets/waiting/versions/1/{part}")
        assert problem(answer, 409)["code"] == "dataset_not_ready"
    service.work("data")


def test_a_preview_shows_the_stored_rows(service: Service) -> None:
    declared = {"ids": "person", "split": {"column": "fold"}}
    dataset(service, "shown", declared, **static())
    answer = service.http.get("/v1/datasets/shown/versions/1/preview", params={"first_row": 48, "rows": 5}).json()
    assert answer["total_rows"] == 50
    assert [row["row"] for row in answer["rows"]] == [48, 49]
    row = answer["rows"][1]
    assert (row["id"], row["label"], row["split"]) == ("row 49 ä", None, "training")
    assert row["values"]["age"] == pytest.approx(float(static()["age"][49]), rel=1e-6)
    assert (row["values"]["image"] is None) == (not static()["image.present"][49])
    assert row["values"]["label"] == static()["label"][49]


def test_a_preview_of_sequences_shows_their_first_steps(service: Service) -> None:
    dataset(service, "shown-steps", {"kind": "sequence"}, **sequences())
    answer = service.http.get("/v1/datasets/shown-steps/versions/1/preview?rows=1&steps=2").json()
    values = answer["rows"][0]["values"]
    assert len(values["x"]) == len(values["y"]) == 2
    assert values["x"][0] == pytest.approx(sequences()["x"][0, 0].tolist())


def test_a_damaged_file_has_no_preview_and_no_content(service: Service) -> None:
    version = dataset(service, "flipped", x=np.arange(64.0))
    stored: Path = service.settings.artifacts / service.project_id / version["sha256"]
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(bytes(content))
    for part in ("preview", "content", "content?format=stored"):
        answer = service.http.get(f"/v1/datasets/flipped/versions/1/{part}")
        assert problem(answer, 500)["code"] == "artifact_corrupt"


def test_a_version_with_a_declaration_of_an_earlier_release_is_shown(service: Service) -> None:
    dataset(service, "older", **{"x": np.arange(6.0)})
    declaration = {
        "modalities": {"x": {"dtype": "float32", "likelihood": "categorical", "units": None}},
        "nan": "refuse",
    }
    with service.worker.database.writer.begin() as session:
        newest = session.scalars(select(DatasetVersion).order_by(DatasetVersion.id.desc())).first()
        assert newest is not None
        newest.declaration = declaration
    found = service.http.get("/v1/datasets/older/versions/1").json()
    assert found["declared"] == {"modalities": {"x": {"dtype": "float32", "likelihood": "categorical"}}}
