"""The pages that show the OpenAPI document, and every file that they need."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from service.http.document_pages import routes
from tests.conftest import Service

ASSETS = Path(routes.__file__).parent / "assets"
ROOT = Path(__file__).parents[3]


class _Page(HTMLParser):
    """The addresses in a page, and its inline scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attributes if name in ("src", "href", "spec-url") and value]
        self._in_script = tag == "script" and "src" not in dict(attributes)

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts.append(data)


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_and_all_that_it_names_come_from_the_service_without_a_key(service: Service, path: str) -> None:
    answer = service.http.get(path, headers={"Authorization": ""})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "//" not in answer.text  # no address of another server, with or without a scheme
    page = _Page(answer.text)
    assert "openapi.json" in page.addresses
    for address in page.addresses:
        found = service.http.get(f"/{address}", headers={"Authorization": ""})
        assert found.status_code == 200, address
        assert found.content, address


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_runs_only_scripts_of_the_service(service: Service, path: str) -> None:
    answer = service.http.get(path)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    hashes = re.findall("'sha256-([^']+)'", policy["script-src"])
    for script in _Page(answer.text).scripts:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in hashes
    assert "'unsafe-inline'" not in policy["script-src"]
    assert not any("http:" in sources or "https:" in sources or "*" in sources for sources in policy.values())


def test_browsers_keep_files_for_a_year_and_ask_for_the_page_each_time(service: Service) -> None:
    assert service.http.get("/docs").headers["cache-control"] == "no-cache"
    script = f"/{routes.SWAGGER_UI}/swagger-ui-bundle.js"
    first = service.http.get(script)
    assert first.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert first.headers["content-type"].startswith(("text/javascript", "application/javascript"))
    again = service.http.get(script, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_file_that_is_not_there_is_a_problem_and_no_other_file_is_served(service: Service) -> None:
    for path in ("/docs/assets/none.js", "/docs/assets/..%2froutes.py", "/docs/assets/"):
        answer = service.http.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path


def test_every_library_has_its_licence_beside_it() -> None:
    folders = [folder for folder in ASSETS.iterdir() if folder.is_dir()]
    assert {folder.name for folder in folders} == {Path(routes.SWAGGER_UI).name, Path(routes.REDOC).name}
    for folder in folders:
        assert (folder / "LICENSE").stat().st_size > 1000


def test_every_file_is_part_of_the_package() -> None:
    builder = pytest.importorskip("hatchling.builders.wheel").WheelBuilder(str(ROOT))
    packed = {ROOT / file.distribution_path for file in builder.recurse_included_files()}
    assert {path for path in ASSETS.rglob("*") if path.is_file()} <= packed
