"""A short fault-injection test with 12 runs; `make chaos` runs the long one."""

import os

import pytest

from tests import servers
from tests.chaos import faults
from tests.chaos.harness import inject_faults
from tests.chaos.stack import SHORT
from tests.conftest import need

pytestmark = pytest.mark.slow


@pytest.mark.timeout(1200)
def test_runs_survive_every_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    need(servers.postgresql_binaries(), "PostgreSQL")
    need(servers.redis_binary(), "Redis")
    if os.geteuid() != 0:  # only root can mount the tmpfs that `fill_disk` fills
        monkeypatch.setattr(faults, "EVERY", [fault for fault in faults.EVERY if fault is not faults.fill_disk])
    outcome = inject_faults(12, SHORT, every_seconds=2.0)
    assert outcome.wrong == []
