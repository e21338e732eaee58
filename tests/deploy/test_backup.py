"""What deploy/backup.sh leaves behind, on a container engine that is not there: a script stands for it."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import wait_until

SCRIPT = Path(__file__).parent.parent.parent / "deploy" / "backup.sh"
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ENGINE = """#!/bin/sh
case "$*" in
  *pg_dump*) [ -z "$HANGS" ] || { echo $$ >"$HANGS"; exec sleep 60; }; echo half; exit ${STATUS:-0} ;;
  *tar*) echo content ;;
esac
"""


def _backup(tmp_path: Path, **environment: str) -> subprocess.Popen[str]:
    engine = tmp_path / "bin" / "docker"
    engine.parent.mkdir()
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    path = f"{engine.parent}:{os.environ['PATH']}"
    command = [SCRIPT, tmp_path / "saved"]
    own = {"PATH": path, "HANGS": "", **environment}
    return subprocess.Popen(
        command, env=own, stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=_hear_every_signal
    )


def _hear_every_signal() -> None:
    """A shell cannot trap what its parent ignored, as `nohup` ignores SIGHUP."""
    for how in INTERRUPTIONS:
        signal.signal(how, signal.SIG_DFL)


def _left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.glob("saved*"))


def test_a_backup_is_whole(tmp_path: Path) -> None:
    assert _backup(tmp_path).wait(300) == 0
    assert _left(tmp_path) == ["saved"]
    assert (tmp_path / "saved" / "database.dump").read_text() == "half\n"


def test_a_dump_that_fails_leaves_nothing(tmp_path: Path) -> None:
    assert _backup(tmp_path, STATUS="3").wait(300) == 3
    assert _left(tmp_path) == []


@pytest.mark.parametrize("how", INTERRUPTIONS)
def test_a_backup_that_is_interrupted_leaves_nothing(tmp_path: Path, how: signal.Signals) -> None:
    process = _backup(tmp_path, HANGS=str(tmp_path / "hangs"))
    wait_until((tmp_path / "hangs").exists, 30, "the dump")
    os.killpg(process.pid, how)
    assert process.wait(300) != 0
    assert _left(tmp_path) == []
