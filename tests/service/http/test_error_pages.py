"""/errors describes every code, without a key, as JSON and as a page."""

import re

import pytest

from service.http.error_codes import FAULTS, JOB_ERRORS, PROBLEMS
from service.http.error_pages import prefers_html
from tests.conftest import Service
from tests.service.steps import problem

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
NO_KEY = {"Authorization": ""}


def test_the_type_of_a_problem_is_a_path_that_describes_it(service: Service) -> None:
    body = problem(service.http.get("/v1/runs/run_nothing"), 404, "run_not_found")
    answer = service.http.get(body["type"], headers=NO_KEY)
    assert answer.json() == {
        "code": "run_not_found",
        "kind": "problem",
        "status": 404,
        "title": body["title"],
        "meaning": PROBLEMS["run_not_found"].meaning,
        "advice": PROBLEMS["run_not_found"].advice,
        "retryable": False,
    }


def test_the_list_has_every_code_once(service: Service) -> None:
    listed = service.http.get("/errors", headers=NO_KEY).json()["errors"]
    assert [row["code"] for row in listed] == [*PROBLEMS, *JOB_ERRORS, *FAULTS]
    for row in listed:
        assert service.http.get(f"/errors/{row['code']}", headers=NO_KEY).json() == row


def test_a_browser_gets_a_page_without_scripts_and_other_files(service: Service) -> None:
    for path in ("/errors", *(f"/errors/{code}" for code in (*PROBLEMS, *JOB_ERRORS, *FAULTS))):
        answer = service.http.get(path, headers={**NO_KEY, "Accept": BROWSER})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert answer.headers["vary"] == "Accept"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        page = answer.text
        assert re.findall(r"<script|<link|<img|src=|javascript:", page) == []
        assert "color-scheme: light dark" in page
        assert "width=device-width" in page


def test_every_link_of_the_list_leads_to_a_page(service: Service) -> None:
    page = service.http.get("/errors", headers={"Accept": BROWSER}).text
    links = re.findall('href="([^"]+)"', page)
    assert len(links) == len({*PROBLEMS, *JOB_ERRORS, *FAULTS})
    assert {service.http.get(f"/{link}").status_code for link in links} == {200}


def test_an_unknown_code_is_a_problem(service: Service) -> None:
    problem(service.http.get("/errors/<script>", headers={**NO_KEY, "Accept": BROWSER}), 404, "not_found")


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("*/*", False),
        ("", False),
        ("application/json", False),
        ("text/html", True),
        ("text/*", True),
        (BROWSER, True),
        ("application/json, text/html;q=0.5", False),
        ("text/html;q=0, */*", False),
        ("text/html;q=high", False),
    ],
)
def test_html_is_sent_only_if_it_is_preferred(accept: str, html: bool) -> None:
    assert prefers_html(accept) is html
