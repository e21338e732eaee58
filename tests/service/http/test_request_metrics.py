"""Requests are counted by operation and status; unknown paths add no series."""

from tests.conftest import Service


def series(service: Service) -> dict[str, float]:
    text = service.http.get("/metrics").text
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_requests_are_counted_by_operation_and_status(service: Service) -> None:
    name = 'sensorium_requests_total{operation="list_runs",status="200"}'
    before = series(service).get(name, 0)
    for _ in range(3):
        service.http.get("/v1/runs")
    service.http.get("/v1/runs", headers={"Authorization": "Bearer sns_1_2"})
    after = series(service)
    assert after[name] == before + 3
    assert after['sensorium_request_seconds_count{operation="list_runs"}'] >= 3


def test_paths_that_do_not_exist_share_one_series(service: Service) -> None:
    for number in range(5):
        service.http.get(f"/nothing/{number}")
    assert [name for name in series(service) if "nothing" in name] == []
    assert series(service)['sensorium_requests_total{operation="none",status="404"}'] >= 5
