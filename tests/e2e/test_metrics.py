"""Metrics of a whole installation: each process counts its own work, and the sums match the work done."""

import os
import secrets
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import httpx2 as httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import wait_until
from tests.e2e.processes import answers, process, sensorium
from tests.e2e.stack import FINAL, TRAINING, Caller
from tests.servers import free_port

pytestmark = pytest.mark.slow

BODY = {"inputs": {"audio": [[0.5, -1.0, 2.0], [1, 1, 1]]}}
DOCUMENTED = (Path(__file__).parent.parent.parent / "docs" / "metrics.md").read_text()


def series(url: str) -> dict[str, float]:
    """The samples of one process, by name and labels."""
    found: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_processes_count_separately_and_agree_on_the_values_from_sql(
    postgresql_url: str, redis_url: str, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "SENSORIUM_HOME": str(tmp_path / "home"),
        "SENSORIUM_DATABASE": postgresql_url,
        "SENSORIUM_SECRET_KEY": secrets.token_hex(32),
        "SENSORIUM_BROKER": redis_url,
        "SENSORIUM_INFERENCE_BACKEND": "celery",
    }
    sensorium(environment, "migrate")
    key = sensorium(environment, "key", "create", "test", "the test's")
    ports = {name: free_port() for name in ("first", "second", "train", "data", "infer", "infer too")}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    with ExitStack() as stack:
        for name in ("first", "second"):
            own = environment | {"SENSORIUM_PORT": str(ports[name])}
            stack.enter_context(process(own, "service.cli", "api"))
        for name in ("train", "data", "infer", "infer too"):
            own = environment | {"SENSORIUM_METRICS_PORT": str(ports[name])}
            stack.enter_context(process(own, "service.cli", "worker", name.removesuffix(" too")))
        callers = [Caller(urls[name], key) for name in ("first", "second")]
        for caller in callers:
            wait_until(lambda caller=caller: answers(caller), 60, "the API")  # type: ignore[misc]
        callers[0].dataset("small")
        run = callers[0].wait_for_state(callers[0].submit("small"), *FINAL)
        for number in range(10):
            path = f"/v1/models/{run['model']}/versions/{run['version']}/encode"
            callers[number % 2].call("POST", path, json=BODY)

        def agree() -> bool:  # processes read the values from SQL every few seconds
            told = [series(urls[name]) for name in ("first", "second")]
            return all(one["sensorium_kept_jobs{kind=train}"] == 1 for one in told) and all(
                one["sensorium_workers{queue=infer}"] == 2 for one in told
            )

        wait_until(agree, 60, "both processes")
        found = {name: series(url) for name, url in urls.items()}
        for name in ("train", "data", "infer"):
            assert httpx.get(f"{urls[name]}/healthz").text == "ok\n"

    encoded = "sensorium_requests_total{operation=encode,status=200}"
    assert [found[name][encoded] for name in ("first", "second")] == [5, 5]
    apis, engines = ([found[name] for name in names] for names in (("first", "second"), ("infer", "infer too")))
    assert sum(one["sensorium_inference_batch_rows_sum"] for one in apis) == 20
    assert sum(one.get("sensorium_inference_batch_rows_sum", 0) for one in engines) == 0  # each batch counts once
    assert sum(one["sensorium_worker_compute_seconds_total"] for one in engines) > 0
    assert sum(one["sensorium_worker_batches_total{outcome=answered}"] for one in engines) == 10
    assert sum(one["sensorium_engine_versions"] for one in engines) >= 1
    assert sum(one["sensorium_engine_memory_bytes"] for one in engines) > 0
    for one in apis:
        assert one["sensorium_jobs{queue=train,state=queued}"] == 0
        assert one["sensorium_queue_age_seconds{queue=train}"] == 0
        assert one["sensorium_lease_lag_seconds{queue=train}"] == 0
        assert one["sensorium_kept_attempts{kind=train}"] == 1
        assert one["sensorium_workers{queue=train}"] == 1
    trained = found["train"]
    assert trained["sensorium_worker_jobs_claimed_total{kind=train}"] == 1
    assert trained["sensorium_worker_jobs_ended_total{kind=train,outcome=finished}"] == 1
    assert trained["sensorium_training_epochs_total"] == TRAINING["epochs"]
    assert trained["sensorium_training_rows_total"] >= TRAINING["epochs"] * 150
    assert trained["sensorium_training_rows_per_second"] > 0
    assert found["data"]["sensorium_worker_jobs_ended_total{kind=convert,outcome=finished}"] == 1
    names = {name.partition("{")[0] for told in found.values() for name in told}
    for name in names:
        base = name.removesuffix("_sum").removesuffix("_count").removesuffix("_bucket")
        assert f"`{base}`" in DOCUMENTED, f"docs/metrics.md does not tell of {base}"
