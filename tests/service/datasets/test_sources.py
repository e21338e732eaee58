"""Datasets of every format and of generators, over HTTP."""

import io
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from tests.conftest import Service
from tests.service.steps import Body, fault, upload


def made(service: Service, name: str, source: Body, **declared: object) -> Body:
    answer = service.http.post("/v1/datasets", json={"name": name, "source": source, "schema": declared})
    assert answer.status_code == 201, answer.text
    service.work("data")
    found: Body = service.http.get(f"/v1/datasets/{name}/versions/1").json()
    return found


def test_json_lines_become_a_dataset(service: Service) -> None:
    content = b'{"x": [1, 2.5], "mood": "calm"}\n{"x": null, "mood": "angry"}\n{"x": [0, 1]}\n'
    found = made(service, "lines", {"upload": upload(service, content)})
    assert (found["state"], found["rows"]) == ("ready", 3), found
    mood = found["schema"]["modalities"][0]
    assert (mood["categories"], mood["category_names"]) == (2, ["angry", "calm"])
    assert found["statistics"]["together"] == {"mood": {"mood": 2, "x": 1}, "x": {"mood": 1, "x": 2}}
    rows = service.http.get("/v1/datasets/lines/versions/1/preview").json()["rows"]
    assert [row["values"] for row in rows] == [
        {"mood": "calm", "x": [1, 2.5]},
        {"mood": "angry", "x": None},
        {"mood": None, "x": [0, 1]},
    ]


def test_parquet_of_lists_of_different_lengths_becomes_sequences(service: Service) -> None:
    content = io.BytesIO()
    pq.write_table(pa.table({"pulse": [[61.5, None, 63.0], [70.5]], "step": [[[1.0, 2.0]], None]}), content)
    found = made(service, "lists", {"upload": upload(service, content.getvalue())})
    assert (found["state"], found["schema"]["kind"]) == ("ready", "sequence"), found
    assert found["statistics"]["modalities"]["pulse"]["present"] == 3
    rows = service.http.get("/v1/datasets/lists/versions/1/preview").json()["rows"]
    assert rows[0]["values"] == {"pulse": [61.5, None, 63.0], "step": [[1, 2], None, None]}


def test_faults_of_json_lines_name_row_and_modality(service: Service) -> None:
    content = b'{"x": [1, 2]}\n{"x": [1, "two"]}\n'
    found = made(service, "faulty", {"upload": upload(service, content)})
    assert found["state"] == "rejected"
    assert found["errors"][0]["pointer"].startswith("/x")
    assert "row 1" in found["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("generator", "kind", "rows"),
    [
        ({"name": "spirals", "rows": 20, "steps": 5}, "sequence", 20),
        ({"name": "quadratic_sinusoidal", "rows": 30, "seed": 4}, "static", 30),
        ({"name": "mdmm_spirals"}, "sequence", 1000),
    ],
)
def test_generators_make_datasets(service: Service, generator: Body, kind: str, rows: int) -> None:
    found = made(service, f"generated-{generator['name'].replace('_', '-')}", {"generator": generator})
    assert (found["state"], found["schema"]["kind"], found["rows"]) == ("ready", kind, rows), found


def test_the_same_seed_generates_the_same_file(service: Service) -> None:
    generator = {"name": "spirals", "rows": 10, "steps": 3, "seed": 9}
    assert len({made(service, f"twin-{n}", {"generator": generator})["sha256"] for n in range(2)}) == 1


def test_mdmm_spirals_hold_out_their_test_rows(service: Service) -> None:
    made(service, "mdmm", {"generator": {"name": "mdmm_spirals", "seed": 1}})
    rows = service.http.get("/v1/datasets/mdmm/versions/1/preview?rows=1000&steps=1").json()["rows"]
    splits = [row["split"] for row in rows]
    assert (splits.count("training"), splits.count("test")) == (600, 400)
    assert {splits[row] for row in (507, 818, 452, 368, 242)} == {"training"}
    assert rows[1]["values"]["x"][0] == pytest.approx(0.284496, abs=2e-6)
    assert rows[1]["values"]["y"][0] == pytest.approx(-0.300399, abs=2e-6)


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ({}, "/source/upload"),
        ({"generator": {"name": "moons"}}, "/source/generator/name"),
        ({"generator": {"name": "spirals", "rows": 0}}, "/source/generator/rows"),
        ({"generator": {"name": "spirals", "rows": 10**6, "steps": 10**6}}, "/source/generator"),
        ({"generator": {"name": "spirals", "colour": "red"}}, "/source/generator/colour"),
        ({"upload": "upl_1", "generator": {"name": "spirals"}}, "/source/upload"),
        ({"uri": "file:///etc/passwd"}, "/source/uri"),
        ({"uri": "s3://bucket/key.npz"}, "/source/uri"),
        ({"uri": "http://localhost/x.npz"}, "/source/uri"),
        (7, "/source"),
    ],
)
def test_an_invalid_source_is_refused_with_its_place(service: Service, source: Body, place: str) -> None:
    answer = service.http.post("/v1/datasets", json={"name": "nonsense", "source": source})
    assert fault(answer)[0] == place


@pytest.mark.parametrize("name", ["days.jsonl", "days.txt"])
def test_a_file_at_a_uri_becomes_a_dataset(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_bytes(b'{"x": 1.5}\n{"x": 2.5}\n')
    prefixes = [f"file://{tmp_path}"]
    monkeypatch.setenv("SENSORIUM_SOURCE_PREFIXES", orjson.dumps(prefixes).decode())  # for the converter
    app = create_app(service.settings.model_copy(update={"source_prefixes": prefixes}))
    dataset = f"elsewhere-{name.partition('.')[2]}"
    with TestClient(app, headers={"Authorization": f"Bearer {service.key}"}) as http:
        source = {"uri": f"file://{tmp_path}/{name}"}
        assert http.post("/v1/datasets", json={"name": dataset, "source": source}).status_code == 201
    service.work("data")
    found = service.http.get(f"/v1/datasets/{dataset}/versions/1").json()
    if name.endswith(".jsonl"):
        assert (found["state"], found["rows"], found["source"]) == ("ready", 2, source)
    else:
        assert (found["state"], found["errors"][0]["code"]) == ("rejected", "unknown_format")
    assert (tmp_path / name).exists()
