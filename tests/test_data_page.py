"""The examples of docs/data.md make datasets."""

import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from service.datasets import formats
from tests.conftest import Service
from tests.service.steps import upload

PAGE = (Path(__file__).parent.parent / "docs" / "data.md").read_text()
EXAMPLES = re.findall(r"^### ([^\n]+)\n(?:(?!^###).)*?^```python\n(.*?)^```\n\n```json\n(.*?)^```$", PAGE, re.S | re.M)
EXPECTED = {
    ".npz": ("static", 200, ["diagnosis", "scan"]),
    "Parquet": ("sequence", 4, ["activity", "movement", "pulse"]),
    "JSON Lines": ("static", 4, ["mood", "text"]),
    "Sensors at different rates": ("sequence", 2, ["heart", "sweat"]),
}


def test_every_example_is_found() -> None:
    assert [title for title, _, _ in EXAMPLES] == list(EXPECTED)


def test_every_format_has_an_example() -> None:
    assert [format.title for format in formats.BUILT_IN] == list(EXPECTED)[: len(formats.BUILT_IN)]


@pytest.mark.parametrize(("title", "code", "declaration"), EXAMPLES, ids=list(EXPECTED))
def test_an_example_makes_a_dataset(service: Service, tmp_path: Path, title: str, code: str, declaration: str) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    (written,) = tmp_path.iterdir()
    body = {"name": written.stem, "source": {"upload": upload(service, written.read_bytes())}}
    answer = service.http.post("/v1/datasets", json=body | {"schema": orjson.loads(declaration)})
    assert answer.status_code == 201, answer.text
    service.work("data")
    found = service.http.get(f"/v1/datasets/{written.stem}/versions/1").json()
    assert found["state"] == "ready", found
    described = found["schema"]
    names = [modality["name"] for modality in described["modalities"]]
    assert (described["kind"], found["rows"], names) == EXPECTED[title]


def test_readings_at_different_rates_share_a_grid(service: Service) -> None:
    rows = service.http.get("/v1/datasets/sensors/versions/1/preview").json()["rows"]
    assert rows[0]["values"] == {
        "heart": [60, 61, 63, 62],
        "sweat": [pytest.approx(0.5), None, pytest.approx(0.7), None],
    }
