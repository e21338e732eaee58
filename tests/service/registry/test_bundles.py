"""Export and import of bundles: an imported version gives the same answers, and an invalid bundle stores nothing."""

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

import models
from models.io import bundle, manifests
from service.access import operations as access
from service.app import create_app
from service.http import byte_ranges
from service.registry import bundles as registry
from service.registry.operations import find_version
from service.registry.tables import Model, ModelVersion
from service.shared.database import Database
from service.shared.errors import BadInput
from service.shared.settings import Settings
from service.shared.storage import Stored
from service.shared.storage.tables import Artifact
from tests import bundles, schema
from tests.conftest import Service
from tests.models import golden
from tests.models.small import static_model
from tests.service.files import packed as npz
from tests.service.steps import dataset, fault, pictures, problem, train

EXPORT = "/v1/models/pictures/versions/1/export"
BUNDLES = "/v1/bundles"
ROWS = {"inputs": {"image": pictures(3)["image"].tolist(), "label": [0, 2, None]}}
DAMAGED = dict(bundles.damaged())
DECEIVING = dict([*bundles.deceiving(), *bundles.spoiled()])


@dataclass(frozen=True)
class Other:
    """Another service with a project of its own."""

    settings: Settings
    http: TestClient
    project_id: str

    def kept(self) -> tuple[int, ...]:
        """The number of files, and of rows in every table that an import writes."""
        database = Database(self.settings.database_url)
        with database.reader() as session:
            rows = [session.scalar(select(func.count(table.id))) or 0 for table in (Model, ModelVersion, Artifact)]
        database.close()
        return sum(path.is_file() for path in self.settings.artifacts.rglob("*")), *rows


@contextmanager
def other(home: Path, **settings: Any) -> Iterator[Other]:
    home.mkdir(exist_ok=True)
    chosen = Settings(home=home, **settings)
    schema.install(chosen.database_url)
    database = Database(chosen.database_url)
    with database.writer.begin() as session:
        project = access.create_project(session, "other").id
        _, key = access.create_key(session, project, "other")
    database.close()
    with TestClient(create_app(chosen), headers={"Authorization": f"Bearer {key}"}) as http:
        yield Other(chosen, http, project)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Other]:
    """A service with a small limit of other bodies; it does not apply to bundles."""
    with other(tmp_path_factory.mktemp("elsewhere"), request_bytes=2000) as found:
        yield found


@pytest.fixture(scope="module")
def exported(service: Service) -> bytes:
    """The bundle of a trained model."""
    dataset(service, "pictures", **pictures())
    assert train(service, "pictures", "pictures")["state"] == "succeeded"
    answer = service.http.get(EXPORT)
    assert answer.status_code == 200, answer.text
    return answer.content


def encoded(http: TestClient, model: str, version: int = 1) -> Any:
    answer = http.post(f"/v1/models/{model}/versions/{version}/encode", json=ROWS)
    assert answer.status_code == 200, answer.text
    return {field: answer.json()[field] for field in ("mean", "standard_deviation")}


def part(http: TestClient, range: str, **headers: str) -> Any:
    return http.get(EXPORT, headers={"Range": range, **headers})


def digest(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def test_a_version_answers_the_same_elsewhere(
    service: Service, elsewhere: Other, exported: bytes, tmp_path: Path
) -> None:
    original = service.http.get("/v1/models/pictures/versions/1").json()
    answer = elsewhere.http.post(BUNDLES, content=exported, headers={"Content-Digest": digest(exported)})
    assert answer.status_code == 201, answer.text
    version = answer.json()
    assert answer.headers["location"] == f"/v1/models/pictures/versions/{version['version']}"
    assert elsewhere.http.get(answer.headers["location"]).json() == version
    assert original["evaluation"]["matrix"]
    for field in ("sha256", "size_bytes", "config", "metrics", "evaluation", "description", "tags"):
        assert version[field] == original[field], field
    origin = {"model": "pictures", "version": 1, "artifact_sha256": original["sha256"]}
    assert version["lineage"] == {**original["lineage"], "imported_from": origin}
    here, there = encoded(service.http, "pictures"), encoded(elsewhere.http, "pictures", version["version"])
    assert there == here
    path = tmp_path / "pictures-1.tar"
    path.write_bytes(exported)
    values = {"image": pictures(3)["image"], "label": np.array([0, 2, 0])}
    present = {"image": np.ones(3, bool), "label": np.array([True, True, False])}
    latent = models.load(path).encode(values, present)
    assert np.array_equal(latent.mean, np.array(here["mean"], np.float32))
    assert np.array_equal(latent.standard_deviation, np.array(here["standard_deviation"], np.float32))


def test_an_export_describes_its_version(service: Service, exported: bytes, tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    path.write_bytes(exported)
    said, version = models.describe(path), service.http.get("/v1/models/pictures/versions/1").json()
    assert {name: value for name, value in said.items() if name in version and name != "version"} == {
        name: version[name] for name in said if name in version and name != "version"
    }
    assert (said["model"], said["model_version"]) == ("pictures", 1)
    assert service.http.get(EXPORT).content == exported
    whole = service.http.get(EXPORT)
    asked = service.http.head(EXPORT, headers={"Range": "bytes=0-9"})
    assert (asked.status_code, asked.content) == (200, b"")
    for header in ("etag", "content-length", "accept-ranges", "content-type", "content-disposition"):
        assert asked.headers[header] == whole.headers[header], header
    assert whole.headers["content-length"] == str(len(exported))
    assert (whole.headers["accept-ranges"], whole.headers["content-type"]) == ("bytes", "application/x-tar")
    assert whole.headers["content-disposition"] == 'attachment; filename="pictures-1.tar"'


def test_joined_ranges_equal_the_whole_file(service: Service, exported: bytes) -> None:
    size = len(exported)
    inside = exported.index(b"model.safetensors\0") + 512
    for cuts in ([1000], [1], [size - 1], [512, inside, inside + 1, size - 1024], list(range(700, size, size // 7))):
        pieces = []
        for start, stop in zip([0, *cuts], [*cuts, size], strict=True):
            answer = part(service.http, f"bytes={start}-{stop - 1}")
            assert answer.status_code == 206
            assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
            assert answer.headers["content-length"] == str(stop - start)
            pieces.append(answer.content)
        assert b"".join(pieces) == exported
    assert part(service.http, "bytes=-1500").content == exported[-1500:]
    assert part(service.http, f"bytes=-{size * 2}").content == exported
    assert part(service.http, "bytes=600-").content == exported[600:]
    assert part(service.http, f"Bytes=600-{size * 9}").content == exported[600:]


def test_an_interrupted_download_can_be_resumed(service: Service, exported: bytes) -> None:
    with service.http.stream("GET", EXPORT) as answer:
        etag, begun = answer.headers["etag"], next(answer.iter_bytes(5000))
    rest = part(service.http, f"bytes={len(begun)}-", **{"If-Range": etag})
    assert rest.status_code == 206
    assert begun + rest.content == exported
    for other_one in ('"other"', f"W/{etag}", "Wed, 21 Oct 2026 07:28:00 GMT"):
        again = part(service.http, "bytes=5000-", **{"If-Range": other_one})
        assert (again.status_code, again.content) == (200, exported)


@pytest.mark.parametrize("header", ["bytes=0-1,5-6", "bytes=9-3", "bytes=-", "bytes", "rows=0-1", "bytes=a-b", "é"])
def test_an_invalid_range_is_ignored(service: Service, exported: bytes, header: str) -> None:
    answer = service.http.get(EXPORT, headers={"Range": header.encode()})
    assert (answer.status_code, answer.content) == (200, exported)


def test_a_range_behind_the_end_is_refused(service: Service, exported: bytes) -> None:
    for header in (f"bytes={len(exported)}-", "bytes=-0", "bytes=99999999999999-"):
        answer = part(service.http, header)
        problem(answer, 416, "range_not_satisfiable")
        assert answer.headers["content-range"] == f"bytes */{len(exported)}"


def test_a_later_change_of_the_description_changes_the_etag(service: Service, exported: bytes) -> None:
    etag = service.http.head(EXPORT).headers["etag"]
    service.http.patch("/v1/models/pictures/versions/1", json={"description": "Later."})
    answer = part(service.http, "bytes=5000-", **{"If-Range": etag})
    assert (answer.status_code, b"Later." in answer.content) == (200, True)
    service.http.patch("/v1/models/pictures/versions/1", json={"description": None})
    assert service.http.get(EXPORT).content == exported


def test_a_damaged_artifact_is_not_sent(service: Service, exported: bytes) -> None:
    version = service.http.get("/v1/models/pictures/versions/1").json()
    path = service.settings.artifacts / service.project_id / version["sha256"]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\xff")
    problem(service.http.get(EXPORT), 500, "artifact_corrupt")
    path.write_bytes(content[:-1])
    problem(part(service.http, "bytes=5000-"), 500, "artifact_corrupt")
    path.unlink()
    problem(part(service.http, "bytes=5000-"), 500, "artifact_corrupt")
    path.write_bytes(content)
    assert service.http.get(EXPORT).content == exported


def test_an_unknown_version_is_not_exported(service: Service, exported: bytes) -> None:
    problem(service.http.get("/v1/models/pictures/versions/9/export"), 404, "model_version_not_found")
    problem(service.http.get("/v1/models/unknown/versions/1/export"), 404, "model_version_not_found")


def test_an_import_gets_the_next_number_of_any_model(elsewhere: Other, exported: bytes) -> None:
    files = elsewhere.kept()[0]
    numbers = [elsewhere.http.post(f"{BUNDLES}?name=moved", content=exported).json()["version"] for _ in range(2)]
    assert numbers == [1, 2]
    assert elsewhere.kept()[0] <= files + 1
    # an exported import names its last origin
    again = elsewhere.http.get("/v1/models/moved/versions/2/export").content
    version = elsewhere.http.post(f"{BUNDLES}?name=third", content=again).json()
    assert version["lineage"]["imported_from"]["model"] == "moved"
    assert encoded(elsewhere.http, "third") == encoded(elsewhere.http, "moved")


def test_an_import_that_is_sent_again_makes_one_version(elsewhere: Other, exported: bytes) -> None:
    key = {"Idempotency-Key": "once"}
    first = elsewhere.http.post(f"{BUNDLES}?name=once", content=exported, headers=key)
    kept = elsewhere.kept()
    again = elsewhere.http.post(f"{BUNDLES}?name=once", content=exported, headers=key)
    assert (again.status_code, again.json(), again.headers["location"]) == (
        201,
        first.json(),
        first.headers["location"],
    )
    assert again.headers["idempotent-replayed"] == "true"
    problem(elsewhere.http.post(f"{BUNDLES}?name=once", content=bundles.whole(), headers=key), 422)
    problem(elsewhere.http.post(f"{BUNDLES}?name=two", content=exported, headers=key), 422)
    assert elsewhere.kept() == kept


def test_a_bundle_that_was_damaged_on_the_way_is_refused(elsewhere: Other) -> None:
    kept, content = elsewhere.kept(), bundles.whole()
    answer = elsewhere.http.post(BUNDLES, content=content[:-5], headers={"Content-Digest": digest(content)})
    assert fault(answer) == ("content-digest", "digest_mismatch")
    assert fault(elsewhere.http.post(f"{BUNDLES}?name=../x", content=content))[0] == "?name"
    assert elsewhere.kept() == kept


def test_a_bundle_with_a_stored_product_of_experts_fusion_is_imported_in_the_form_of_today(elsewhere: Other) -> None:
    """tests/fixtures/golden was stored when a product of experts was a fusion."""
    content = golden.archive("mmvrnn")["gaussian-product_of_experts-filter-gru1/model"]
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    config = json.loads(header["__metadata__"]["sensorium"])["config"]
    assert config["fusion"] == "product_of_experts"
    answer = elsewhere.http.post(BUNDLES, content=bundles.packed(content, config=config))
    assert answer.status_code == 201, answer.text
    imported = answer.json()["config"]
    assert (imported["fusion"], imported["posterior"]) == ("missing_embeddings", "product_of_experts")


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_bundle_leaves_no_rows_and_no_files(elsewhere: Other, name: str) -> None:
    kept = elsewhere.kept()
    answer = elsewhere.http.post(BUNDLES, content=DAMAGED[name])
    assert fault(answer) == ("", "not_a_bundle")
    assert "01" not in answer.json()["detail"][:2]  # not a valid name
    assert elsewhere.kept() == kept


@pytest.mark.parametrize("name", DECEIVING)
def test_an_unusable_checkpoint_leaves_no_rows_and_no_files(elsewhere: Other, name: str) -> None:
    kept = elsewhere.kept()
    answer = elsewhere.http.post(BUNDLES, content=bundles.packed(DECEIVING[name]))
    assert fault(answer) == ("", "unusable_model")
    assert answer.json()["detail"].startswith("model.safetensors")
    assert len(answer.json()["detail"]) < 1100
    assert elsewhere.kept() == kept
    assert elsewhere.http.get("/readyz").status_code == 200


NOTHING_FOUND: dict[str, Any] = {
    "rows": {"split": "test", "count": 1},
    "matrix": [],
    "elbo": None,
    "iwae_64": None,
    "latent": [],
    "active_units": 0,
    "expert_shares": None,
    "warnings": [],
}


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "../etc"},
        {"model": 5},
        {"model_version": 0},
        {"model_version": 2**70},
        {"description": "x" * 2001},
        {"description": "zero \0 inside"},
        {"description": "half \ud800 a pair"},
        {"tags": ["a b"]},
        {"tags": [f"t{number}" for number in range(21)]},
        {"metrics": {"loss": "low"}},
        {"metrics": {"loss": {"of": 1}}},
        {"metrics": {"zero\0": 1.0}},
        {"lineage": {}},
        {"lineage": {**bundles.LINEAGE, "dataset_version": 2**40}},
        {"lineage": {**bundles.LINEAGE, "seed": -(2**70)}},
        {"lineage": {**bundles.LINEAGE, "training": json.loads("[" * 400 + "]" * 400)}},
        {"lineage": {**bundles.LINEAGE, "run": "x" * 10_000}},
        {"evaluation": {"rows": 5}},
        {"evaluation": {**NOTHING_FOUND, "warnings": [{"type": "zero \0 inside", "message": "m"}]}},
        {"evaluation": {**NOTHING_FOUND, "warnings": [{"type": "half \ud800 a pair", "message": "m"}]}},
        {"config": {}},
        {"config": static_model(latent_features=3).config.model_dump(mode="json")},
        {"signature": {"more": 10**30}},
    ],
    ids=lambda changes: str(changes)[:60].encode("ascii", "replace").decode(),
)
def test_an_impossible_manifest_leaves_no_rows_and_no_files(elsewhere: Other, changes: dict[str, Any]) -> None:
    kept = elsewhere.kept()
    answer = elsewhere.http.post(BUNDLES, content=bundles.packed(bundles.weights(static_model()), **changes))
    assert fault(answer) == ("", "invalid_manifest")
    assert answer.json()["detail"].startswith("manifest.json: ")
    assert elsewhere.kept() == kept


def test_a_bundle_above_the_limit_leaves_no_rows_and_no_files(tmp_path: Path) -> None:
    content = bundles.whole()
    with other(tmp_path / "small", upload_bytes=len(content) - 1) as small:
        kept = small.kept()
        problem(small.http.post(BUNDLES, content=content), 413, "upload_too_large")
        pieces = (content[at : at + 1000] for at in range(0, len(content), 1000))
        problem(small.http.post(BUNDLES, content=pieces), 413, "upload_too_large")
        assert small.kept() == kept
    with other(tmp_path / "full", project_stored_bytes=len(content) + 100) as full:
        key = {"Idempotency-Key": "k"}
        assert full.http.post(BUNDLES, content=content, headers=key).status_code == 201
        kept = full.kept()
        problem(full.http.post(BUNDLES, content=bundles.whole(1)), 507, "quota_exceeded")
        assert full.http.post(BUNDLES, content=content, headers=key).status_code == 201  # repeated, not stored again
        assert full.kept() == kept


def test_concurrent_imports_do_not_exceed_the_quota_together(exported: bytes, tmp_path: Path) -> None:
    content = exported
    with other(tmp_path / "full", project_stored_bytes=len(content) + 100) as full, ThreadPoolExecutor(3) as pool:
        several = [content, bundles.whole(1), bundles.whole(2)]
        answers = list(pool.map(lambda bundle: full.http.post(BUNDLES, content=bundle), several))
        taken = [answer.json()["size_bytes"] for answer in answers if answer.status_code == 201]
        assert sum(taken) <= len(content) + 100
        for refused in (answer for answer in answers if answer.status_code != 201):
            problem(refused, 507, "quota_exceeded")
        assert len([path for path in (tmp_path / "full" / "artifacts").rglob("*") if path.is_file()]) == len(taken)


def test_an_upload_is_refused_as_a_bundle_and_a_bundle_as_an_upload(elsewhere: Other, exported: bytes) -> None:
    kept = elsewhere.kept()
    problem(elsewhere.http.post(BUNDLES, content=npz(x=np.zeros((3, 2)))), 422)
    problem(elsewhere.http.post("/v1/uploads", content=exported), 422)
    assert elsewhere.kept() == kept


def test_ranges_of_large_files_are_worked_out() -> None:
    size = 9 * 2**30
    assert byte_ranges.parse("bytes=8589934592-", size) == (2**33, size)
    assert byte_ranges.parse("bytes=-1", size) == (size - 1, size)
    assert byte_ranges.parse(f"bytes=0-{'9' * 5000}", size) is None


def test_an_imported_version_has_no_run_and_counts_on(database: Database, project_id: str) -> None:
    """On every supported database."""
    said = bundles.manifest(b"x")
    stored = Stored(project_id, hashlib.sha256(os.urandom(8)).hexdigest(), 1)
    for name, number in ((None, 1), (None, 2), ("renamed", 1)):
        with database.writer.begin() as session:
            made = registry.register(session, project_id, name, said, stored, None)
        assert (made.model, made.version) == (name or "sounds", number)
        assert (made.description, made.tags, made.metrics) == (said["description"], said["tags"], said["metrics"])
        assert made.lineage.imported_from is not None
        assert made.lineage.run == "run_elsewhere"
        with database.reader() as session:
            assert find_version(session, project_id, made.model, str(number))[0].run_id is None
            sent = registry.manifest_of(made)
        assert bundle.prefix(sent, 1).count(manifests.FORMAT.encode()) == 1
    with pytest.raises(BadInput, match=r"manifest\.json: model"), database.writer.begin() as session:
        registry.register(session, project_id, None, bundles.manifest(b"x", model="a/b"), stored, None)
