"""Three hosts that have only PostgreSQL, Redis and S3 in common, and a minute in which two of them are cut off."""

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
# Longer than what cuts it.
LONG = {"epochs": 5_000, "select": "last"}
CUT_SECONDS = 60


class Hosts:
    """The installation, and who calls it."""

    def __init__(self, report: Report, image: str) -> None:
        self.report = report
        self.port, self.s3_port = free_port(), free_port()
        told = {"SENSORIUM_IMAGE": image, "S3_IMAGE": S3_IMAGE, "PASSWORD": secrets.token_hex(16)}
        told |= {"API_PORT": str(self.port), "S3_PORT": str(self.s3_port)}
        self.project = Project(f"sensorium-hosts-{os.getpid()}", [Path(__file__).parent / "hosts.yml"], **told)
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Everything, and a project with a key."""
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

    def cut(self) -> None:
        """The training host and the inference host hear nothing for a minute, in the middle of their work."""
        with self.report.step("a model is trained on one host and asked on another"):
            self.caller.dataset("small")
            run = self.caller.wait_for_state(self.caller.submit("small"), *FINAL)
            assert run["state"] == "succeeded", run
            self.caller.ask(run)
        with self.report.step(f"both are cut off for {CUT_SECONDS} s"), Load(self.url, self.key, run) as load:
            long = self.caller.submit("small", **LONG)
            wait_until(lambda: self.caller.run(long)["progress"] > 0, 60, "training")
            cut = {host: self._cut(host) for host in ("training-host", "inference-host")}
            before = self.caller.run(long)
            time.sleep(CUT_SECONDS)
            during = self.caller.run(long)
            failed, began_at = load.failed, time.monotonic()
            for host, container in cut.items():
                docker("network", "connect", f"{self.project.name}_{host}", container)
            answered = load.outcomes["200"]
            wait_until(lambda: load.outcomes["200"] > answered + 20, 90, "answers")
            self.report.figure("inference after the cut", f"answers again after {time.monotonic() - began_at:.1f} s")
            self.report.figure("inference during the cut", f"{failed} requests were told 503")
        assert before["progress"] > 0
        with self.report.step("the training goes on and ends well, once"):
            wait_until(lambda: self.caller.run(long)["state"] in FINAL, 300, "the run ended")
            after = self.caller.run(long)
            assert after["state"] == "succeeded", after
            versions = self.caller.call("GET", "/v1/models/small/versions")["versions"]
            assert [one["lineage"]["run"] for one in versions].count(long) == 1
            self.caller.ask(after)
            told = f"{during['state']} at its end, {after['attempt']} attempts in all"
            self.report.figure("training during the cut", told)
        assert set(load.outcomes) <= {"200", "503"}, load.outcomes

    def _cut(self, host: str) -> str:
        """Take the worker of a host off its network, which is all that it has. Returns the container."""
        container = self.project.containers(host.replace("host", "worker"))[0].id
        docker("network", "disconnect", f"{self.project.name}_{host}", container)
        return container

    def remove(self) -> None:
        """Nothing stays."""
        with self.report.step("the hosts are taken down and nothing is left"):
            assert self.project.remove() == []
            docker("image", "rm", S3_IMAGE)


def main(report: Report, image: str) -> None:
    """Start them, cut them off, take them down."""
    hosts = Hosts(report, image)
    try:
        hosts.start()
        hosts.cut()
    except BaseException:
        report.say(hosts.project.log())
        raise
    finally:
        hosts.remove()
