"""Requests of successful responses that need more than the valid request of their operation."""

from tests.contract.error_target import Answer, Target
from tests.contract.provocations import valid_request
from tests.contract.provocations.case import Case, Provoke


def _part(target: Target, case: Case) -> Answer:
    return valid_request.send(target, case, headers={"Range": "bytes=0-9"})


def _new_alias(target: Target, case: Case) -> Answer:
    return target.ask(case.method, case.url(target, alias="new"), json={"version": 1})


def _ended_stream(target: Target, case: Case) -> Answer:
    """A stream of a run that has ended, after its last event."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "1000000"}
    return target.ask(case.method, case.url(target, run_id=target.known["succeeded"]), headers=headers)


def _deletion(target: Target, case: Case) -> Answer:
    """The deletion of a version that no alias names."""
    body = {"run": target.known["succeeded"]}
    version = target.caller.call("POST", "/v1/models/small/versions", json=body)["version"]
    return target.ask(case.method, case.url(target, version=str(version)))


OTHERS: dict[tuple[str, str], Provoke] = {
    ("delete_model_version", "204"): _deletion,
    ("download_dataset", "206"): _part,
    ("download_run_checkpoint", "206"): _part,
    ("export_model_version", "206"): _part,
    ("get_run_events", "204"): _ended_stream,
    ("put_alias", "201"): _new_alias,
}
"""By operation and status."""


def request_of(case: Case) -> Provoke:
    """The request of a successful response."""
    return OTHERS.get((case.id, case.status), valid_request.send)


def place(case: Case) -> tuple[bool, bool, bool]:
    """The order in which all can succeed: what reads, what changes, what deletes."""
    return case.method != "GET", case.method == "DELETE", case.id == "cancel_runs"
