"""An installation of the first release works on after an upgrade: nothing is lost, and its jobs end as they should.

The dumps, and what the API answered when they were made, are the work of `tests.fixtures.upgrade.make`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import wait_until
from tests.contract.answers import misfits, template_of
from tests.e2e.stack import FINAL, Caller
from tests.fixtures.upgrade.installation import (
    KINDS,
    STILL,
    SWAPPED,
    Body,
    Installation,
    answers_of,
    load,
    resources,
    stable,
    stored,
    unpack,
)

ROOT = Path(__file__).parents[2]
# Answers are numbers of a network: kernels of other processors round differently.
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}


@dataclass(frozen=True)
class Upgraded:
    """A migrated installation of which no process runs yet, and what is known of it."""

    installation: Installation
    known: Body


@pytest.fixture(params=KINDS)
def upgraded(request: pytest.FixtureRequest, tmp_path: Path) -> Upgraded:
    """The stored dump, loaded and migrated, once for each kind of database."""
    kind: str = request.param
    database: str = request.getfixturevalue(f"{kind}_url")
    broker = "filesystem://" if kind == "sqlite" else request.getfixturevalue("redis_url")
    home = tmp_path / "home"
    unpack(kind, home / "artifacts")
    load(kind, database)
    installation = Installation(home, database, broker, ROOT)
    installation.command("migrate")
    return Upgraded(installation, stored(kind))


@pytest.fixture
def still(upgraded: Upgraded) -> Iterator[tuple[Caller, Body]]:
    """An API without workers over the upgraded installation, and what is known of it."""
    with upgraded.installation.api(upgraded.known["key"], **STILL) as (caller, _):
        yield caller, upgraded.known


def test_an_upgraded_installation_answers_as_before(still: tuple[Caller, Body]) -> None:
    caller, known = still
    served = resources(caller)
    assert sorted(served) == sorted(known["resources"])
    found = [line for path, body in known["resources"].items() for line in _losses(stable(body), served[path], path)]
    assert found == []
    _check_keys(caller, known)
    _check_replays(caller, known["replays"])
    _check_inference(caller, known)
    _check_pages(caller, known["page"])


def test_answers_of_an_upgraded_installation_are_those_that_the_document_describes(still: tuple[Caller, Body]) -> None:
    caller, _ = still
    document = caller.http.get("/openapi.json").json()
    found, compared = [], 0
    for path, body in answers_of(caller).items():
        answers = document["paths"][template_of(document, path)]["get"]["responses"]["200"]["content"]
        if "application/json" in answers:
            compared += 1
            found += misfits(document, "get", path, body)
    assert found == []
    assert compared > 50


def _losses(before: Any, after: Any, place: str) -> Iterator[str]:
    """What a body has lost or changed. Later releases may add fields."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in before:
            if name not in after:
                yield f"{place}/{name} is missing"
            else:
                yield from _losses(before[name], after[name], f"{place}/{name}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _losses(one, other, f"{place}/{number}")
    elif before != after:
        yield f"{place} was {before!r}, is {after!r}"


def _check_keys(caller: Caller, known: Body) -> None:
    """A key keeps its scopes, and a token of a page its meaning."""
    reader = Caller(str(caller.http.base_url), known["reader_key"])
    assert reader.call("GET", "/v1/datasets/small")["name"] == "small"
    refused = reader.http.post(f"/v1/runs/{known['queued']}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")


def _check_replays(caller: Caller, replays: list[Body]) -> None:
    for sent in replays:
        answer = caller.http.post(sent["path"], **sent["request"])
        assert answer.headers["Idempotent-Replayed"] == "true"
        secret = {"token": None} if "token" in sent["answer"] else {}
        assert answer.json() == sent["answer"] | secret


def _check_inference(caller: Caller, known: Body) -> None:
    for path, body, before in known["answers"]:
        _check_close(before, caller.call("POST", path, json=body), path)
    streamed = known["streamed"]
    answer = caller.call("POST", streamed["path"], json=streamed["body"])
    _check_close(streamed["answer"]["mean"], answer["mean"], streamed["path"])


def _check_close(before: Any, after: Any, place: str) -> None:
    """Equal, but for the last digits of numbers."""
    if isinstance(before, dict):
        assert before.keys() <= after.keys(), place
        for name, inner in before.items():
            if name != "request_id":
                _check_close(inner, after[name], f"{place}/{name}")
    elif isinstance(before, list):
        assert len(before) == len(after), place
        for number, inner in enumerate(before):
            _check_close(inner, after[number], f"{place}/{number}")
    elif isinstance(before, float):
        np.testing.assert_allclose(after, before, **TOLERANCE, err_msg=place)
    else:
        assert before == after, place


def _check_pages(caller: Caller, first: Body) -> None:
    """A token that was given before the upgrade still leads to the next page."""
    token, seen = first["next_page_token"], [run["id"] for run in first["runs"]]
    rest = caller.call("GET", "/v1/runs", params={"page_token": token, "page_size": 200})["runs"]
    assert [*seen, *(run["id"] for run in rest)] == [run["id"] for run in caller.call("GET", "/v1/runs")["runs"]]


@pytest.mark.slow
def test_the_jobs_of_an_upgraded_installation_end_as_they_should(upgraded: Upgraded) -> None:
    """Queued: trained. Running without a worker: reaped, then trained. Paused: resumed, then trained."""
    installation, known = upgraded.installation, upgraded.known
    with (
        installation.api(known["key"], SENSORIUM_LEASE_SECONDS="3") as (caller, _),
        installation.process("worker", "train", SENSORIUM_LEASE_SECONDS="3"),
    ):
        before = caller.run(known["running"])
        assert caller.call("POST", f"/v1/runs/{known['paused']}/resume")["state"] == "queued"
        for name in ("queued", "running", "paused"):
            run = caller.wait_for_state(known[name], *FINAL)
            assert (name, run["state"], run["version"]) == (name, "succeeded", 1)
        reaped = caller.run(known["running"])
        assert (reaped["attempt"], reaped["failures"]) == (before["attempt"] + 1, 1)
        events = [one["type"] for one in caller.call("GET", f"/v1/runs/{reaped['id']}/events")["events"]]
        # after a few epochs a linear prediction is better
        assert events[-5:] == ["worker_lost", "started", "training", "no_better_than_baseline", "succeeded"]
        swapped = f"/v1/models/{SWAPPED}/aliases/production"
        wait_until(lambda: caller.call("GET", swapped)["pending_version"] is None, 30, "the alias has moved")
        assert (caller.call("GET", swapped)["version"], caller.call("GET", swapped)["error"]) == (2, None)
