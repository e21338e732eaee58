"""Uploads and datasets over HTTP, converted by a real worker in a real child process."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Service
from tests.service.files import archive, npy, packed
from tests.service.steps import dataset, fault, problem, queue_dataset, tracks, upload

IMAGE = np.arange(24, dtype=np.float32).reshape(6, 2, 2)


def kept(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


class Trap:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return (len, ("never",))


# Uploads


def test_an_upload_lists_its_arrays(service: Service) -> None:
    answer = service.http.post("/v1/uploads", content=packed(image=IMAGE, label=np.arange(6)))
    assert answer.status_code == 201
    body = answer.json()
    assert answer.headers["location"] == f"/v1/uploads/{body['id']}"
    assert body["arrays"] == [
        {"name": "image", "shape": [6, 2, 2], "dtype": "<f4"},
        {"name": "label", "shape": [6], "dtype": "<i8"},
    ]
    assert service.http.get(answer.headers["location"]).json() == body


def test_the_same_file_twice_is_two_uploads_and_one_artifact(service: Service) -> None:
    content = packed(image=IMAGE + 100)
    first = upload(service, content)
    before = kept(service.settings.artifacts)
    second = upload(service, content)
    assert first != second
    assert kept(service.settings.artifacts) == before


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"not a zip", "unknown_format"),
        (packed(a=IMAGE)[:-40], "not_npz"),
        (archive({}), "empty_file"),
        (archive({"a.txt": b"hello"}), "not_an_array"),
        (packed(a=np.array([Trap()], dtype=object)), "pickled_object"),
        (archive({"a.npy": npy(IMAGE)[:-8]}), "size_mismatch"),
        (archive({"a.npy": npy(IMAGE).replace(b"(6, 2, 2)", b"(9, 2, 2)")}), "size_mismatch"),
    ],
    ids=["nothing", "no zip", "cut short", "empty", "no array", "pickle", "too few bytes", "header lies"],
)
def test_a_file_that_is_not_an_npz_of_numbers_is_refused_and_leaves_no_file(
    service: Service, content: bytes, code: str
) -> None:
    before = kept(service.settings.artifacts)
    assert fault(service.http.post("/v1/uploads", content=content))[1] == code
    assert kept(service.settings.artifacts) == before
    assert service.http.get("/healthz").status_code == 200


def test_a_damaged_header_within_a_good_archive_is_refused_and_leaves_no_file(service: Service) -> None:
    before = kept(service.settings.artifacts)
    content = bytearray(packed(a=np.random.default_rng(0).random(100)))
    content[35:60] = b"\xff" * 25
    assert fault(service.http.post("/v1/uploads", content=bytes(content)))[0] == "/a"
    assert kept(service.settings.artifacts) == before


def test_an_unknown_upload_is_not_found(service: Service) -> None:
    assert problem(service.http.get("/v1/uploads/upl_none"), 404)["code"] == "upload_not_found"
    body = {"name": "d", "source": {"upload": "upl_none"}}
    assert problem(service.http.post("/v1/datasets", json=body), 404)["code"] == "upload_not_found"
    assert problem(service.http.get("/v1/datasets/d"), 404)["code"] == "dataset_not_found"


# Datasets


def test_a_dataset_is_validating_until_a_worker_has_converted_it(service: Service) -> None:
    label = np.array([0, 2, 1, 0, 2, 2], dtype=np.uint8)
    arrays = {"image": IMAGE, "label": label, "label.present": np.array([1, 1, 0, 1, 1, 1], dtype=bool)}
    queued = queue_dataset(service, "digits", **arrays)
    assert (queued["state"], queued["version"], queued["rows"], queued["schema"]) == ("validating", 1, None, None)
    service.work("data")
    ready = service.http.get("/v1/datasets/digits/versions/1").json()
    assert (ready["state"], ready["rows"], ready["errors"], ready["detail"]) == ("ready", 6, [], None)
    described = ("name", "shape", "dtype", "categories", "likelihood")
    assert ready["schema"]["kind"] == "static"
    assert [tuple(modality[part] for part in described) for modality in ready["schema"]["modalities"]] == [
        ("image", [2, 2], "float32", None, "gaussian"),
        ("label", [], "int64", 2, "categorical"),
    ]
    image = ready["statistics"]["modalities"]["image"]
    assert (image["minimum"], image["maximum"], image["mean"]) == (0.0, 23.0, 11.5)
    assert image["standard_deviation"] == pytest.approx(IMAGE.std())
    assert ready["statistics"]["modalities"]["label"] == {
        "rows": 5,
        "present": 5,
        "absent": 1,
        "nan": 0,
        "counts": [2, 3],
    }
    stored = service.settings.artifacts / service.project_id / ready["sha256"]
    assert stored.stat().st_size == ready["size_bytes"]


def test_the_same_name_makes_the_next_version(service: Service) -> None:
    assert [queue_dataset(service, "versions", a=IMAGE)["version"] for _ in range(3)] == [1, 2, 3]
    service.work("data")
    assert service.http.get("/v1/datasets/versions").json()["latest_version"] == 3
    shas = {service.http.get(f"/v1/datasets/versions/versions/{n}").json()["sha256"] for n in (1, 2, 3)}
    assert len(shas) == 1


def test_sequences_keep_their_own_lengths(service: Service) -> None:
    ready = dataset(service, "tracks", {"kind": "sequence"}, **tracks())
    assert ready["state"] == "ready"
    lengths = tracks()["x.lengths"]
    assert ready["statistics"]["lengths"] == {
        "minimum": lengths.min(),
        "mean": pytest.approx(lengths.mean()),
        "maximum": lengths.max(),
    }
    assert ready["statistics"]["modalities"]["x"]["present"] == lengths.sum()


def test_a_nan_is_refused_with_its_place(service: Service) -> None:
    image = IMAGE.copy()
    image[4, 1, 0] = np.nan
    found = dataset(service, "holes", image=image)
    assert (found["state"], found["schema"], found["sha256"]) == ("rejected", None, None)
    (error,) = found["errors"]
    assert (error["pointer"], error["code"]) == ("/image/4/1/0", "bad_value")
    assert error["detail"] == "modality 'image' is nan at row 4, element [1, 0], expected a finite number"


def test_a_nan_may_mean_missing(service: Service) -> None:
    image = IMAGE.copy()
    image[4, 1, 0] = np.nan
    found = dataset(service, "holes_allowed", {"nan": "missing"}, image=image, label=np.arange(6))
    assert found["state"] == "ready"
    assert found["statistics"]["modalities"]["image"]["absent"] == 1


def test_a_declared_number_of_categories_is_kept_and_enforced(service: Service) -> None:
    declared = {"modalities": {"label": {"categories": 10}}}
    found = dataset(service, "declared", declared, label=np.array([0, 3, 1]))
    assert found["schema"]["modalities"][0]["categories"] == 10
    found = dataset(service, "declared", declared, label=np.array([0, 30, 1]))
    assert found["state"] == "rejected"
    assert found["errors"][0]["pointer"] == "/label/1"
    assert "expected a category from 0 to 9" in found["errors"][0]["detail"]


def test_few_whole_numbers_are_categories_however_large_they_are(service: Service) -> None:
    """The number of categories is the number of different values, not the largest value plus one."""
    found = dataset(service, "stamps", stamp=np.array([1, 1_700_000_000_000, 3]))
    (modality,) = found["schema"]["modalities"]
    assert (modality["categories"], modality["category_names"]) == (3, [1, 3, 1_700_000_000_000])
    assert [(warning["code"], warning["column"]) for warning in found["warnings"]] == [("inferred_categories", "stamp")]
    preview = service.http.get("/v1/datasets/stamps/versions/1/preview").json()["rows"]
    assert [row["values"]["stamp"] for row in preview] == [1, 1_700_000_000_000, 3]


@pytest.mark.parametrize("dtype", ["uint8", "uint64", "int16", ">i8"])
def test_labels_of_every_integer_type_are_categories(service: Service, dtype: str) -> None:
    found = dataset(service, "integers", label=np.array([0, 2, 1], dtype=dtype))
    assert (found["state"], found["detail"]) == ("ready", None)
    assert found["schema"]["modalities"][0]["categories"] == 3


def test_a_row_without_any_modality_is_left_out_with_a_warning(service: Service) -> None:
    found = dataset(service, "gaps", a=IMAGE, **{"a.present": np.array([1, 0, 1, 1, 1, 1], dtype=bool)})
    assert (found["state"], found["rows"]) == ("ready", 5)
    assert found["statistics"]["empty_rows"] == 1
    assert [(warning["code"], warning["column"]) for warning in found["warnings"]] == [("empty_rows", None)]
    assert found["warnings"][0]["detail"].endswith("left out: 1")


def test_faults_of_the_headers_are_refused_before_a_job_is_queued(service: Service) -> None:
    source = {"upload": upload(service, packed(a=IMAGE))}
    for schema, place in [
        ({"modalities": {"b": {}}}, "/schema/modalities/b"),
        ({"modalities": {"a": {"categories": 3}}}, "/source/upload"),
        ({"kind": "cube"}, "/schema/kind"),
        ({"colour": "red"}, "/schema/colour"),
    ]:
        answer = service.http.post("/v1/datasets", json={"name": "unfit", "source": source, "schema": schema})
        assert fault(answer)[0] == place
    problem(service.http.get("/v1/datasets/unfit"), 404, "dataset_not_found")


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "a b", "-a", "ä"])
def test_an_array_name_that_looks_like_a_path_is_refused(service: Service, name: str) -> None:
    answer = service.http.post("/v1/uploads", content=archive({f"{name}.npy": npy(IMAGE)}))
    if answer.status_code == 201:
        body = {"name": "paths", "source": {"upload": answer.json()["id"]}}
        answer = service.http.post("/v1/datasets", json=body)
    assert fault(answer)[1] == "bad_name"
    assert name in problem(answer, 422)["errors"][0]["detail"]
    problem(service.http.get("/v1/datasets/paths"), 404)


def test_a_conversion_of_a_damaged_upload_fails_and_the_worker_continues(service: Service) -> None:
    answer = service.http.post("/v1/uploads", content=packed(a=IMAGE + 7)).json()
    stored = service.settings.artifacts / service.project_id / answer["sha256"]
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    service.http.post("/v1/datasets", json={"name": "damaged", "source": {"upload": answer["id"]}})
    service.work("data")
    found = service.http.get("/v1/datasets/damaged/versions/1").json()
    assert found["state"] == "failed"
    assert "other bytes" in found["detail"]


def test_data_that_does_not_inflate_is_rejected_and_not_retried(service: Service) -> None:
    content = bytearray(packed(a=np.random.default_rng(0).random(20_000)))
    content[len(content) // 2 : len(content) // 2 + 200] = b"\xff" * 200
    service.http.post("/v1/datasets", json={"name": "broken", "source": {"upload": upload(service, bytes(content))}})
    service.work("data")
    found = service.http.get("/v1/datasets/broken/versions/1").json()
    assert found["state"] == "rejected", found["detail"]
    assert found["errors"][0]["code"] == "damaged_array"


def test_an_unknown_dataset_or_version_is_not_found(service: Service) -> None:
    dataset(service, "known", a=IMAGE)
    problem(service.http.get("/v1/datasets/unknown"), 404, "dataset_not_found")
    problem(service.http.get("/v1/datasets/known/versions/9"), 404, "dataset_version_not_found")
    assert fault(service.http.get("/v1/datasets/known/versions/0"))[0] == "version"
    assert fault(service.http.get("/v1/datasets/known/versions/new"))[0] == "version"


def test_datasets_are_listed_newest_first_in_pages(service: Service) -> None:
    for n in range(5):
        made_at = time.time_ns() // 1_000_000
        while time.time_ns() // 1_000_000 == made_at:
            pass
        queue_dataset(service, f"page{n}", a=IMAGE)
    service.work("data")
    names: list[str] = []
    token = None
    while True:
        page = service.http.get(
            "/v1/datasets", params={"page_size": 2, **({"page_token": token} if token else {})}
        ).json()
        assert len(page["datasets"]) <= 2
        names += [found["name"] for found in page["datasets"]]
        if not (token := page["next_page_token"]):
            break
    assert names[:5] == [f"page{n}" for n in reversed(range(5))]
    assert len(names) == len(set(names))


def test_page_parameters_out_of_range_are_refused(service: Service) -> None:
    for value in ("0", "-1", "201", "many"):
        assert fault(service.http.get("/v1/datasets", params={"page_size": value}))[0] == "?page_size"


@pytest.mark.parametrize("token", ["!", "a", "%%%", "ä", "//8", "_w"])
def test_an_invalid_page_token_is_refused(service: Service, token: str) -> None:
    answer = service.http.get("/v1/datasets", params={"page_token": token})
    assert fault(answer, 400) == ("?page_token", "invalid_page_token")


def test_a_page_token_of_another_list_is_refused(service: Service) -> None:
    for name in ("first", "second"):
        queue_dataset(service, f"listed-{name}", a=IMAGE)
    service.work("data")
    token = service.http.get("/v1/datasets?page_size=1").json()["next_page_token"]
    assert service.http.get("/v1/datasets", params={"page_token": token}).status_code == 200
    assert fault(service.http.get("/v1/runs", params={"page_token": token}), 400)[0] == "?page_token"
    forged = ("a" if token[0] != "a" else "b") + token[1:]
    assert fault(service.http.get("/v1/datasets", params={"page_token": forged}), 400)[0] == "?page_token"
