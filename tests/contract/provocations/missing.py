"""Errors about resources that do not exist: in the path, by code, and those that the body or the query names."""

from tests.contract.error_target import Answer, Target
from tests.contract.provocations.case import Case, Provoke, ask, ask_about
from tests.contract.provocations.valid_request import BODIES

PARTS = {
    "run_not_found": {"run_id": "run_nothing"},
    "checkpoint_not_found": {"step": "999999"},
    "project_not_found": {"project_id": "prj_nothing"},
    "upload_not_found": {"upload_id": "upl_nothing"},
    "api_key_not_found": {"key_id": "key_nothing"},
    "dataset_not_found": {"name": "nothing"},
    "dataset_version_not_found": {"name": "small", "version": "99"},
    "model_not_found": {"name": "nothing"},
    "model_version_not_found": {"version": "99"},
    "alias_not_found": {"alias": "nothing", "version": "nothing"},
    "not_found": {"code": "nothing"},
}
"""The parts of a path for which there is no resource, by code."""

_RUN = {"dataset": {"name": "small"}, "model": "m"}


def _missing(target: Target, case: Case) -> Answer:
    body = {} if "requestBody" not in case.operation else {"json": BODIES.get(case.id, {})}
    parts = PARTS[case.code]
    if case.code == "model_version_not_found" and "{version}" not in case.path:  # the newest version of a model
        parts = {"name": "nothing"}
    return target.ask(case.method, case.url(target, **parts), **body)


def _checkpoint(target: Target, case: Case) -> Answer:
    return target.ask(case.method, case.url(target), json={"run": target.known["failed"], "step": 999_999})


MISSING: dict[str | tuple[str, str], Provoke] = {
    **dict.fromkeys(PARTS, _missing),
    ("compare_runs", "run_not_found"): ask_about("?run=run_nothing&run=run_other"),
    ("create_dataset", "upload_not_found"): ask(json={"name": "new", "source": {"upload": "upl_nothing"}}),
    ("create_model_version", "checkpoint_not_found"): _checkpoint,
    ("create_model_version", "run_not_found"): ask(json={"run": "run_nothing"}),
    ("create_run", "dataset_not_found"): ask(json={**_RUN, "dataset": {"name": "nothing"}}),
    ("create_run", "dataset_version_not_found"): ask(json={**_RUN, "dataset": {"name": "small", "version": 99}}),
    ("create_run", "model_version_not_found"): ask(json={**_RUN, "init_from": {"model": "small", "version": 99}}),
    ("get_run_evaluation", "evaluation_of_run_not_found"): ask_about(run_id="{failed}"),
    ("list_audit_events", "project_not_found"): lambda target, case: target.ask(
        case.method, f"{case.path}?project_id=prj_nothing", target.stranger
    ),
    ("put_alias", "model_version_not_found"): ask(json={"version": 99}),
}
"""By code, or by operation and code."""
