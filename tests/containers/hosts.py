"""Three hosts that share only PostgreSQL, Redis and S3; two of them are disconnected for a minute."""

import os
import secrets
import time
from pathlib import Path

import httpx2 as httpx

from tests.conftest import wait_until
from tests.containers.engine import Project, base_image, docker
from tests.containers.load import Load
from tests.containers.report import Report
from tests.e2e.stack import FINAL, Caller
from tests.servers import free_port

S3_IMAGE = "sensorium-s3:test"
S3 = """
FROM {base}
RUN pip install --quiet 'moto[server]'
EXPOSE 5000
CMD ["moto_server", "--host=0.0.0.0", "--port=5000"]
"""
# A training that is longer than the disconnection.
LONG = {"epochs": 5_000, "select": "last"}
CUT_SECONDS = 60


class Hosts:
    """The installation on three hosts, and a client of it."""

    def __init__(self, report: Report, image: str) -> None:
        self.report = report
        self.port, self.s3_port = free_port(), free_port()
        environment = {"SENSORIUM_IMAGE": image, "S3_IMAGE": S3_IMAGE, "PASSWORD": secrets.token_hex(16)}
        environment |= {"API_PORT": str(self.port), "S3_PORT": str(self.s3_port)}
        self.project = Project(f"sensorium-hosts-{os.getpid()}", [Path(__file__).parent / "hosts.yml"], **environment)
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the hosts, and create a project with a key."""
        with self.report.step("three hosts start"):
            docker("build", "--quiet", f"--tag={S3_IMAGE}", "-", given=S3.format(base=base_image()).encode())
            self.project.start()
            wait_until(self._makes_bucket, 60, "S3")
        for service in ("api", "training-worker", "inference-worker"):
            networks = self.project.containers(service)[0].facts["NetworkSettings"]["Networks"]
            assert len(networks) == 1, f"{service} is on {sorted(networks)}"
        self.key = self.project.compose("exec", "-T", "api", "sensorium", "project", "create", "hosts")
        self.caller = Caller(self.url, self.key)

    def _makes_bucket(self) -> bool:
        try:
            return httpx.put(f"http://127.0.0.1:{self.s3_port}/artifacts").is_success
        except httpx.TransportError:
            return False

    def disconnect(self) -> None:
        """Disconnect the training host and the inference host for a minute while both are busy."""
        with self.report.step("one host trains a model, another serves it"):
            self.caller.dataset("small")
            run = self.caller.wait_for_state(self.caller.submit("small"), *FINAL)
            assert run["state"] == "succeeded", run
            self.caller.ask(run)
        with (
            self.report.step(f"both hosts are disconnected for {CUT_SECONDS} s"),
            Load(self.url, self.key, run) as load,
        ):
            long = self.caller.submit("small", **LONG)
            wait_until(lambda: self.caller.run(long)["progress"] > 0, 60, "training")
            disconnected = {host: self._disconnect(host) for host in ("training-host", "inference-host")}
            before = self.caller.run(long)
            time.sleep(CUT_SECONDS)
            during = self.caller.run(long)
            failed, began_at = load.failed, time.monotonic()
            for host, container in disconnected.items():
                docker("network", "connect", f"{self.project.name}_{host}", container)
            answered = load.outcomes["200"]
            wait_until(lambda: load.outcomes["200"] > answered + 20, 90, "answers")
            seconds = time.monotonic() - began_at
            self.report.figure("inference after the disconnection", f"succeeds again after {seconds:.1f} s")
            self.report.figure("inference during the disconnection", f"{failed} requests got 503")
        assert before["progress"] > 0
        with self.report.step("the training continues and succeeds once"):
            wait_until(lambda: self.caller.run(long)["state"] in FINAL, 300, "the run ended")
            after = self.caller.run(long)
            assert after["state"] == "succeeded", after
            versions = self.caller.call("GET", "/v1/models/small/versions")["versions"]
            assert [one["lineage"]["run"] for one in versions].count(long) == 1
            self.caller.ask(after)
            figure = f"{during['state']} at its end, {after['attempt']} attempts in total"
            self.report.figure("training during the disconnection", figure)
        assert set(load.outcomes) <= {"200", "503"}, load.outcomes

    def _disconnect(self, host: str) -> str:
        """Disconnect the worker of a host from its only network. Returns the container's id."""
        container = self.project.containers(host.replace("host", "worker"))[0].id
        docker("network", "disconnect", f"{self.project.name}_{host}", container)
        return container

    def remove(self) -> None:
        """Remove the hosts, and check that nothing remains."""
        with self.report.step("the hosts are removed completely"):
            assert self.project.remove() == []
            docker("image", "rm", S3_IMAGE)


def main(report: Report, image: str) -> None:
    """Start the hosts, disconnect two of them, and remove all."""
    hosts = Hosts(report, image)
    try:
        hosts.start()
        hosts.disconnect()
    except BaseException:
        report.say(hosts.project.log())
        raise
    finally:
        hosts.remove()
