"""Columns of any name have a role or are modalities under another name; the index of a pandas frame is recognised."""

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import Service
from tests.service.files import packed
from tests.service.steps import Body, dataset, fault, pictures, train, upload

ROWS = 12
COLUMNS: dict[str, list[Any]] = {
    "Patient ID": [f"p{row}" for row in range(ROWS)],
    "größe": [1.5 + row for row in range(ROWS)],
    "my.split": ["train"] * 8 + ["test"] * 4,
    "my": [row % 3 == 0 for row in range(ROWS)],
    "Notes/raw": ["free text"] * ROWS,
    "group.present": ["a", "b"] * 6,
}
DECLARED: Body = {
    "ids": "Patient ID",
    "labels": "group.present",
    "split": {"column": "my.split"},
    "ignore": ["Notes/raw"],
    "modalities": {"height": {"column": "größe", "units": "cm"}},
}


def parquet(columns: dict[str, Any], metadata: dict[str, Any] | None = None) -> bytes:
    table = pa.table(columns)
    if metadata is not None:
        table = table.replace_schema_metadata({"pandas": json.dumps(metadata)})
    content = io.BytesIO()
    pq.write_table(table, content)
    return content.getvalue()


def jsonl(columns: dict[str, list[Any]]) -> bytes:
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def npz(columns: dict[str, list[Any]]) -> bytes:
    return packed(**{name: np.array(values) for name, values in columns.items()})


FORMATS = {"parquet": parquet, "jsonl": jsonl, "npz": npz}


def converted(service: Service, name: str, content: bytes, declared: Body) -> Body:
    body = {"name": name, "source": {"upload": upload(service, content)}, "schema": declared}
    answer = service.http.post("/v1/datasets", json=body)
    assert answer.status_code == 201, answer.text
    service.work("data")
    version = answer.json()["version"]
    found: Body = service.http.get(f"/v1/datasets/{name}/versions/{version}").json()
    return found


def rows_of(service: Service, name: str) -> list[Body]:
    rows: list[Body] = service.http.get(f"/v1/datasets/{name}/versions/1/preview").json()["rows"]
    return rows


def warned(version: Body) -> list[tuple[str, str | None]]:
    """The warnings about the index, without others."""
    return [(w["code"], w["column"]) for w in version["warnings"] if w["code"].startswith("index")]


@pytest.mark.parametrize("format", FORMATS)
def test_a_column_of_any_name_may_have_any_role(service: Service, format: str) -> None:
    version = converted(service, f"roles-{format}", FORMATS[format](COLUMNS), DECLARED)
    assert version["state"] == "ready", version
    assert [(m["name"], m["units"]) for m in version["schema"]["modalities"]] == [("height", "cm"), ("my", None)]
    row = rows_of(service, f"roles-{format}")[9]
    assert (row["id"], row["label"], row["split"]) == ("p9", "b", "test")
    assert row["values"] == {"height": 10.5, "my": 1.0}
    assert version["declared"]["modalities"]["height"] == {"column": "größe", "units": "cm"}


@pytest.mark.parametrize("format", FORMATS)
def test_the_fault_of_a_bad_column_name_proposes_a_declaration(service: Service, format: str) -> None:
    content = FORMATS[format]({name: COLUMNS[name] for name in ("größe", "my")})
    body = {"name": f"unnamed-{format}", "source": {"upload": upload(service, content)}}
    answer = service.http.post("/v1/datasets", json=body)
    if answer.status_code == 201:  # a worker checks files that are not .npz
        service.work("data")
        errors = service.http.get(f"/v1/datasets/unnamed-{format}/versions/1").json()["errors"]
    else:
        errors = answer.json()["errors"]
    (error,) = errors
    assert error["code"] == "bad_name"
    assert "'größe'" in error["detail"]
    assert '"modalities": {"gr_e": {"column": "größe"}}' in error["detail"]


def test_masks_lengths_and_times_belong_to_the_column_and_not_to_its_name(service: Service) -> None:
    arrays = {
        "pulse rate": np.arange(12.0).reshape(3, 4),
        "pulse rate.lengths": np.array([2, 4, 1]),
        "pulse rate.present": np.array([[1, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]], bool),
    }
    declared = {"modalities": {"pulse": {"column": "pulse rate"}}}
    version = converted(service, "beside", packed(**arrays), declared)
    assert (version["state"], version["schema"]["kind"]) == ("ready", "sequence")
    assert [row["values"]["pulse"] for row in rows_of(service, "beside")] == [[0, None], [4, 5, 6, 7], [8]]


def test_a_renamed_column_has_its_times_beside_it(service: Service) -> None:
    rows = [{"heart rate": [60, 61.5], "heart rate.time": [0, 2]}, {"heart rate": [70], "heart rate.time": [0]}]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    declared = {"modalities": {"heart": {"column": "heart rate"}}, "step_seconds": 1}
    version = converted(service, "times", content, declared)
    assert version["state"] == "ready", version
    assert [row["values"]["heart"] for row in rows_of(service, "times")] == [[60, None, 61.5], [70]]


def test_a_fault_points_to_the_column_by_its_name_in_the_file(service: Service) -> None:
    columns = {"größe": [1.5, float("inf")], "my": [True, False]}
    version = converted(service, "pointed", parquet(columns), {"modalities": {"height": {"column": "größe"}}})
    assert [error["pointer"] for error in version["errors"]] == ["/größe/1"]


@pytest.mark.parametrize(
    "declared",
    [
        {"ids": "größe", "modalities": {"height": {"column": "größe"}}},
        {"modalities": {"height": {"column": "größe"}, "size": {"column": "größe"}}},
        {"ids": "a\0b"},
        {"ignore": ["x" * 201]},
    ],
    ids=str,
)
def test_a_declaration_with_a_column_twice_or_an_impossible_name_is_refused(service: Service, declared: Body) -> None:
    body = {"name": "twice", "source": {"upload": upload(service, npz(COLUMNS))}, "schema": declared}
    assert fault(service.http.post("/v1/datasets", json=body))[0].startswith("/schema")


def test_a_modality_has_one_column(service: Service) -> None:
    columns = {"größe": [1.5, 2.5], "height": [1.0, 2.5]}
    declared = {"modalities": {"height": {"column": "größe"}}}
    body = {"name": "both", "source": {"upload": upload(service, npz(columns))}, "schema": declared}
    answer = service.http.post("/v1/datasets", json=body)
    assert fault(answer)[1] == "two_columns"
    version = converted(service, "both", npz(columns), {**declared, "ignore": ["height"]})
    assert version["state"] == "ready"


def test_an_array_of_any_name_in_fortran_order_is_read(service: Service) -> None:
    """Its bytes are unpacked to a file, whose name is not the array's."""
    array = np.asfortranarray(np.arange(12.0).reshape(3, 4) + 0.5)
    declared = {"modalities": {"x": {"column": "../../tmp/a b"}}}
    version = converted(service, "fortran", packed(**{"../../tmp/a b": array}), declared)
    assert version["state"] == "ready", version
    assert [row["values"]["x"] for row in rows_of(service, "fortran")] == array.tolist()


# As `DataFrame.to_parquet` of pandas 3.1 writes the index of a filtered frame.
INDEX = "__index_level_0__"


@pytest.mark.parametrize("name", [INDEX, "Patient ID"])
def test_a_unique_pandas_index_gives_the_ids(service: Service, name: str) -> None:
    columns = {"x": [1.5, 2.5, 0.5], name: [3, 7, 4]}
    version = converted(service, f"unique-{len(name)}", parquet(columns, {"index_columns": [name]}), {})
    assert version["state"] == "ready", version
    assert [m["name"] for m in version["schema"]["modalities"]] == ["x"]
    assert [row["id"] for row in rows_of(service, f"unique-{len(name)}")] == ["3", "7", "4"]
    assert warned(version) == [("index_as_ids", name)]


@pytest.mark.parametrize("values", [[3, 7, 3], [3, None, 4]])
def test_a_pandas_index_with_repeats_or_gaps_is_left_out(service: Service, values: list[int | None]) -> None:
    content = parquet({"x": [1.5, 2.5, 0.5], "day": values}, {"index_columns": ["day"]})
    name = f"repeated-{values.count(None)}"
    version = converted(service, name, content, {})
    assert [m["name"] for m in version["schema"]["modalities"]] == ["x"]
    assert rows_of(service, name)[0]["id"] is None
    assert warned(version) == [("index_left_out", "day")]


def test_an_index_of_several_levels_is_left_out(service: Service) -> None:
    content = parquet({"x": [1.5, 2.5], "a": [1, 2], "b": ["k", "l"]}, {"index_columns": ["a", "b"]})
    version = converted(service, "levels", content, {})
    assert [m["name"] for m in version["schema"]["modalities"]] == ["x"]
    assert warned(version) == [("index_left_out", "a"), ("index_left_out", "b")]


def test_a_declaration_of_the_index_takes_precedence(service: Service) -> None:
    content = parquet({"x": [1.5, 2.5], "day": [3, 7], "who": ["a", "b"]}, {"index_columns": ["day"]})
    version = converted(service, "kept", content, {"ids": "who", "modalities": {"day": {"dtype": "float32"}}})
    assert [m["name"] for m in version["schema"]["modalities"]] == ["day", "x"]
    assert warned(version) == []
    version = converted(service, "other", content, {"ids": "who"})
    assert [m["name"] for m in version["schema"]["modalities"]] == ["x"]
    assert [row["id"] for row in rows_of(service, "other")] == ["a", "b"]
    assert warned(version) == [("index_left_out", "day")]


@pytest.mark.parametrize(
    "metadata", [[], {"index_columns": 3}, {"index_columns": [{"kind": "range"}, 4, "none"]}, "x"], ids=str
)
def test_other_pandas_metadata_is_ignored(service: Service, metadata: Any) -> None:
    version = converted(service, f"odd-{len(str(metadata))}", parquet({"x": [1.5, 2.5]}, metadata), {})
    assert (version["state"], warned(version)) == ("ready", [])


def test_labels_that_pandas_converted_to_doubles_are_categories_in_training_and_inference(service: Service) -> None:
    arrays: dict[str, Any] = pictures()
    arrays["label"] = arrays["label"].astype(float)
    arrays["label"][::10] = np.nan
    declared = {"modalities": {"label": {"likelihood": "categorical"}}, "nan": "missing"}
    version = dataset(service, "doubles", declared, **arrays)
    assert version["state"] == "ready", version
    assert version["statistics"]["modalities"]["label"]["present"] == 90
    assert train(service, "doubles", "doubles")["state"] == "succeeded"
    codes = [
        service.http.post("/v1/models/doubles/versions/1/encode", json={"inputs": {"label": [label]}}).json()["mean"]
        for label in (2, 2.0)
    ]
    assert codes[0] == codes[1]


def test_json_lines_with_a_byte_order_mark_are_json_lines(service: Service) -> None:
    answer = service.http.post("/v1/uploads", content=b"\xef\xbb\xbf" + jsonl({"x": [1.5, 2.5]}))
    assert (answer.status_code, answer.json()["format"]) == (201, "jsonl")
