"""The format of docs/data.md: one file and its entry point suffice from the upload to the download."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.datasets import formats
from service.shared.settings import Settings
from tests.conftest import Service, running
from tests.service.steps import Body, upload

ROOT = Path(__file__).parent.parent.parent.parent
(TSV,) = re.findall(r"^```python\n(# tsv_format.py\n.*?)^```$", (ROOT / "docs" / "data.md").read_text(), re.S | re.M)
FILE = b"#x\ty\n0.5\t1.5\n2.5\t3.5\n4.5\t5.5\n"
VALUES = [{"x": 0.5, "y": 1.5}, {"x": 2.5, "y": 3.5}, {"x": 4.5, "y": 5.5}]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service where the package is installed, also for its child processes."""
    folder, home = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("home")
    (folder / "tsv_format.py").write_text(TSV)
    information = folder / "tsv_format-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: tsv-format\nVersion: 1\n")
    (information / "entry_points.txt").write_text(f"[{formats.FORMATS_GROUP}]\ntsv = tsv_format:FORMAT\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), *sys.path])
        patch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))
        formats.registered.cache_clear()
        patch.setenv("SENSORIUM_SOURCE_PREFIXES", f'["file://{folder}"]')
        with running(Settings(home=home, heartbeat_seconds=0.2, retry_seconds=0)) as service:
            yield service
    formats.registered.cache_clear()


def dataset(service: Service, name: str, source: Body) -> Body:
    """A dataset version of a source, after a worker has converted it."""
    answer = service.http.post("/v1/datasets", json={"name": name, "source": source})
    assert answer.status_code == 201, answer.text
    service.work("data")
    found: Body = service.http.get(f"/v1/datasets/{name}/versions/1").json()
    return found


def test_converter_process_reads_the_custom_format(service: Service) -> None:
    upload_id = upload(service, FILE)
    assert service.http.get(f"/v1/uploads/{upload_id}").json()["format"] == "tsv"
    found = dataset(service, "numbers", {"upload": upload_id})
    assert (found["state"], found["rows"]) == ("ready", 3), found
    rows = service.http.get("/v1/datasets/numbers/versions/1/preview").json()["rows"]
    assert [row["values"] for row in rows] == VALUES


def test_suffix_of_a_uri_selects_the_custom_format(service: Service) -> None:
    folder = Path(service.settings.source_prefixes[0].removeprefix("file://"))
    (folder / "numbers.TSV").write_bytes(FILE)
    found = dataset(service, "elsewhere", {"uri": f"file://{folder}/numbers.TSV"})
    assert (found["state"], found["rows"]) == ("ready", 3), found


def test_custom_format_can_be_downloaded(service: Service) -> None:
    dataset(service, "returned", {"upload": upload(service, FILE)})
    answer = service.http.get("/v1/datasets/returned/versions/1/content?format=tsv")
    assert (answer.content, answer.headers["content-type"]) == (FILE, "text/tab-separated-values; charset=utf-8")
    assert answer.headers["content-disposition"].endswith('"returned-1.tsv"')


def test_openapi_document_lists_the_custom_format(service: Service) -> None:
    program = "import json; from service.app import create_app; from service.shared.settings import Settings\n"
    program += "print(json.dumps(create_app(Settings()).openapi()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=service.settings.home)
    description = json.loads(done.stdout)
    assert description["components"]["schemas"]["Upload"]["properties"]["format"]["enum"][-1] == "tsv"
    download = description["paths"]["/v1/datasets/{name}/versions/{version}/content"]["get"]
    assert "text/tab-separated-values" in download["responses"]["200"]["content"]
    (format,) = (parameter for parameter in download["parameters"] if parameter["name"] == "format")
    assert format["schema"]["enum"] == ["npz", "parquet", "jsonl", "tsv", "stored"]


def test_error_messages_list_the_custom_format(service: Service) -> None:
    answer = service.http.post("/v1/uploads", content=b"\x00\x01")
    assert answer.json()["errors"][0]["detail"].endswith("expected .npz, Parquet, JSON Lines or TSV")
    body = {"name": "n", "source": {"uri": "file:///a", "format": "xml"}}
    answer = service.http.post("/v1/datasets", json=body)
    assert answer.json()["errors"][0]["detail"].endswith("expected 'npz', 'parquet', 'jsonl' or 'tsv'")
