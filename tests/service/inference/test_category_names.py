"""Category names in requests and answers of /v1 and /v2, and in bundles."""

import json
import struct
from typing import Any

import numpy as np
import pytest

from models.io import bundle
from tests.conftest import Service
from tests.service.steps import fault, train, upload

MOODS = ("angry", "calm", "größer")
YEARS = (2007, 2008, 2010)
X = [[0.1, 0.2], [1.5, -0.4]]


def rows() -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    found = []
    for row in range(60):
        mood = int(generator.integers(0, 3))
        x = (generator.normal(size=2) + mood).round(3).tolist()
        found.append({"x": x, "mood": MOODS[mood], **({} if row % 5 == 1 else {"walk": [MOODS[mood]] * (row % 3 + 1)})})
    return found


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@pytest.fixture(scope="module")
def trained(service: Service) -> Service:
    """A service with a model of samples and one of sequences, both of texts."""
    samples = [{"x": row["x"], "mood": row["mood"], "year": YEARS[len(row["mood"]) % 3]} for row in rows()]
    walks = [{"walk": row["walk"], "z": [row["x"]] * len(row["walk"])} for row in rows() if "walk" in row]
    for name, lines, kind in (("moods", samples, "static"), ("walks", walks, "sequence")):
        body = {"name": name, "source": {"upload": upload(service, jsonl(lines))}, "schema": {"kind": kind}}
        assert service.http.post("/v1/datasets", json=body).status_code == 201
        service.work("data")
        run = train(service, name, name, preset="forecasting" if kind == "sequence" else None)
        assert run["state"] == "succeeded", run
    return service


def ask(service: Service, operation: str, body: dict[str, Any], model: str = "moods") -> dict[str, Any]:
    answer = service.http.post(f"/v1/models/{model}/versions/1/{operation}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_signature_lists_the_names(trained: Service) -> None:
    version = trained.http.get("/v1/models/moods/versions/1").json()
    inputs = {each["name"]: each for each in version["signature"]["inputs"]}
    assert inputs["mood"]["category_names"] == list(MOODS)
    assert inputs["x"]["category_names"] is None


def test_a_name_and_its_number_get_the_same_answer(trained: Service) -> None:
    by_name = ask(trained, "encode", {"inputs": {"mood": ["calm", None, "größer"], "x": [None, *X]}})
    by_number = ask(trained, "encode", {"inputs": {"mood": [1, None, 2], "x": [None, *X]}})
    mixed = ask(trained, "encode", {"inputs": {"mood": ["calm", None, 2], "x": [None, *X]}})
    assert by_name["mean"] == by_number["mean"] == mixed["mean"]
    other = ask(trained, "encode", {"inputs": {"mood": ["angry", None, "größer"], "x": [None, *X]}})
    assert other["mean"][0] != by_name["mean"][0]
    assert other["mean"][1:] == by_name["mean"][1:]


def test_an_answer_has_the_name_beside_the_number(trained: Service) -> None:
    found = ask(trained, "reconstruct", {"inputs": {"x": X}, "targets": ["mood"]})["outputs"]["mood"]
    assert found["category"] == np.argmax(found["probabilities"], axis=1).tolist()
    assert found["category_name"] == [MOODS[number] for number in found["category"]]
    drawn = ask(trained, "sample", {"rows": 8, "seed": 3})["outputs"]["mood"]
    assert drawn["value_name"] == [MOODS[number] for number in drawn["value"]]


def test_sequences_take_and_answer_names_step_by_step(trained: Service) -> None:
    inputs: dict[str, Any] = {"walk": [["calm", None, "angry"], ["größer"]]}
    found = ask(trained, "reconstruct", {"inputs": inputs, "targets": ["walk"]}, "walks")["outputs"]["walk"]
    assert [len(steps) for steps in found["category_name"]] == [3, 1]
    assert found["category_name"] == [[MOODS[number] for number in steps] for steps in found["category"]]
    ahead = ask(trained, "forecast", {"inputs": inputs, "horizon": 2, "targets": ["walk"]}, "walks")
    assert np.shape(ahead["outputs"]["walk"]["category_name"]) == (2, 2)


def test_completed_categories_have_their_names(trained: Service) -> None:
    found = ask(trained, "impute", {"inputs": {"x": [X[0], None], "mood": [None, "calm"], "year": [2008, None]}})
    mood, year = found["completed"]["mood"], found["completed"]["year"]
    assert mood["value"] == [mood["category"][0], 1]
    assert mood["value_name"] == [MOODS[number] for number in mood["value"]]
    assert year["value"] == year["value_name"] == [2008, year["category"][1]]
    assert year["value"][1] in YEARS
    walk = ask(trained, "impute", {"inputs": {"walk": [["calm", None], ["größer"]]}}, "walks")["completed"]["walk"]
    assert (walk["value_name"][0][0], walk["value_name"][1]) == ("calm", ["größer"])
    tensor = {"name": "mood", "shape": [2], "datatype": "BYTES", "data": ["calm", "größer"]}
    mask = {"name": "mask.mood", "shape": [2], "datatype": "BOOL", "data": [False, True]}
    x = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": X}
    asked = {"inputs": [tensor, mask, x], "outputs": [{"name": "impute.mood.value_name"}]}
    (output,) = trained.http.post("/v2/models/moods/versions/1/infer", json=asked).json()["outputs"]
    assert output["data"][0] in MOODS
    assert output["data"][1] == "größer"


@pytest.mark.parametrize("value", ["Calm", "", 3, -1, 10**30, 1.0, True, ["calm"], {"calm": 1}])
def test_an_unknown_category_is_refused_with_the_expected_ones(trained: Service, value: Any) -> None:
    body = {"inputs": {"mood": ["calm", value]}}
    answer = trained.http.post("/v1/models/moods/versions/1/encode", json=body)
    assert fault(answer) == ("/inputs/mood/1", "bad_value")
    detail = answer.json()["errors"][0]["detail"]
    assert "at inputs.mood[1], expected a category, one of 'angry', 'calm', 'größer', or its number, 0 to 2" in detail


def test_v2_accepts_and_returns_names_as_bytes(trained: Service) -> None:
    pieces = [text.encode() for text in ("calm", "größer")]
    raw = b"".join(struct.pack("<I", len(piece)) + piece for piece in pieces)
    shaped = {"name": "mood", "shape": [2], "datatype": "BYTES"}
    binary = shaped | {"parameters": {"binary_data_size": len(raw)}}
    asked = [{"name": f"recon.mood{part}"} for part in ("", ".category", ".category_name")]
    answers = []
    for tensor, tail in ((shaped | {"data": ["calm", "größer"]}, b""), (binary, raw)):
        head = json.dumps({"inputs": [tensor], "outputs": asked}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        answer = trained.http.post("/v2/models/moods/versions/1/infer", content=head + tail, headers=headers)
        assert answer.status_code == 200, answer.text
        answers.append({output["name"]: output for output in answer.json()["outputs"]})
    assert answers[0] == answers[1]
    named = answers[0]["recon.mood.category_name"]
    assert (named["datatype"], named["shape"]) == ("BYTES", [2])
    assert named["data"] == [MOODS[number] for number in answers[0]["recon.mood.category"]["data"]]
    by_number = {"name": "mood", "shape": [2], "datatype": "INT64", "data": [1, 2]}
    answer = trained.http.post("/v2/models/moods/versions/1/infer", json={"inputs": [by_number], "outputs": asked})
    assert {output["name"]: output for output in answer.json()["outputs"]} == answers[0]


def test_the_metadata_of_v2_gives_names_the_type_bytes(trained: Service) -> None:
    outputs = trained.http.get("/v2/models/moods/versions/1").json()["outputs"]
    assert {"name": "recon.mood.category_name", "datatype": "BYTES", "shape": [-1]} in outputs
    configured = trained.http.get("/v2/models/moods/versions/1/config").json()["output"]
    assert {"name": "recon.mood.category_name", "data_type": "TYPE_STRING", "dims": []} in configured


def test_v2_refuses_an_unknown_name_unless_it_is_masked(trained: Service) -> None:
    tensor = {"name": "mood", "shape": [2], "datatype": "BYTES", "data": ["calm", "nothing"]}
    answer = trained.http.post("/v2/models/moods/versions/1/infer", json={"inputs": [tensor]})
    assert fault(answer) == ("/inputs/0/data", "bad_value")
    assert "input 'mood' has 'nothing' at [1], expected a category, one of 'angry'" in answer.json()["detail"]
    mask = {"name": "mask.mood", "shape": [2], "datatype": "BOOL", "data": [True, False]}
    x = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [0.1, 0.2, 0.3, 0.4]}
    answer = trained.http.post("/v2/models/moods/versions/1/infer", json={"inputs": [tensor, mask, x]})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("raw", "size"),
    [(b"\x04\x00\x00\x00calm", 8), (b"\x04\x00\x00\x00calm\xff\xff\xff\xff", 12), (b"\0" * 12, 12), (b"\0" * 7, 7)],
    ids=["one text of two", "a length beyond the end", "bytes behind", "shorter than the lengths"],
)
def test_bytes_that_do_not_decode_to_the_texts_are_refused(trained: Service, raw: bytes, size: int) -> None:
    tensor = {"name": "mood", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = trained.http.post("/v2/models/moods/versions/1/infer", content=head + raw, headers=headers)
    assert fault(answer) == ("/inputs/0/parameters", "bad_binary_size")


def test_numbers_as_bytes_are_refused(trained: Service) -> None:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["1", "2"]}
    answer = trained.http.post("/v2/models/moods/versions/1/infer", json={"inputs": [tensor]})
    assert fault(answer) == ("/inputs/0/datatype", "unknown_datatype")


def test_a_bundle_carries_the_names(trained: Service, tmp_path: Any) -> None:
    content = trained.http.get("/v1/models/moods/versions/1/export").content
    path = tmp_path / "moods.bundle"
    path.write_bytes(content)
    manifest = bundle.describe(path)
    (mood,) = [each for each in manifest["signature"]["inputs"] if each["name"] == "mood"]
    assert mood["category_names"] == list(MOODS)
    answer = trained.http.post("/v1/bundles?name=again", content=content)
    assert answer.status_code == 201, answer.text
    inputs = {"mood": ["calm"]}
    again = ask(trained, "encode", {"inputs": inputs}, "again")
    assert again["mean"] == ask(trained, "encode", {"inputs": inputs})["mean"]


def test_a_numeric_category_name_is_accepted_and_returned(trained: Service) -> None:
    version = trained.http.get("/v1/models/moods/versions/1").json()
    (year,) = [each for each in version["signature"]["inputs"] if each["name"] == "year"]
    assert (year["categories"], year["category_names"]) == (3, list(YEARS))
    found = ask(trained, "reconstruct", {"inputs": {"year": [2008, None], "mood": [None, "calm"]}})["outputs"]["year"]
    assert np.shape(found["probabilities"]) == (2, 3)
    assert found["category"] == found["category_name"]
    assert found["category"] == [YEARS[number] for number in np.argmax(found["probabilities"], axis=1)]
    drawn = ask(trained, "sample", {"rows": 8})["outputs"]["year"]
    assert set(drawn["value"]) <= {*YEARS}
    assert drawn["value"] == drawn["value_name"]


@pytest.mark.parametrize("value", [0, 1, 2009, "2008", 2008.5, True, None])
def test_a_number_that_is_not_a_name_is_refused(trained: Service, value: Any) -> None:
    body = {"inputs": {"year": [2008, value], "x": X}}
    answer = trained.http.post("/v1/models/moods/versions/1/encode", json=body)
    if value is None:
        assert answer.status_code == 200
        return
    assert fault(answer) == ("/inputs/year/1", "bad_value")
    assert answer.json()["errors"][0]["detail"].endswith("expected a category, one of 2007, 2008, 2010")


def test_v2_accepts_and_returns_names_that_are_numbers(trained: Service) -> None:
    shaped = {"name": "year", "shape": [2]}
    asked = [{"name": "recon.year.category"}, {"name": "recon.year.category_name"}]
    tensors = [
        {**shaped, "datatype": "INT64", "data": [2008, 2010]},
        {**shaped, "datatype": "INT16", "data": [2008, 2010]},
        {**shaped, "datatype": "BYTES", "data": ["2008", "2010"]},
    ]
    answers = []
    for tensor in tensors:
        body = {"inputs": [tensor], "outputs": asked}
        answers.append(trained.http.post("/v2/models/moods/versions/1/infer", json=body).json()["outputs"])
    assert answers[0] == answers[1] == answers[2]
    assert set(answers[0][0]["data"]) <= {*YEARS}
    assert answers[0][1]["data"] == [str(year) for year in answers[0][0]["data"]]
    answer = trained.http.post(
        "/v2/models/moods/versions/1/infer", json={"inputs": [{**tensors[0], "data": [2008, 1]}], "outputs": asked}
    )
    assert fault(answer) == ("/inputs/0/data", "bad_value")
    assert "input 'year' has 1 at [1], expected a category, one of 2007, 2008, 2010" in answer.json()["detail"]
