"""deploy/backup.sh, with a shell script in place of the container engine."""

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
        command, env=own, stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=_restore_signals
    )


def _restore_signals() -> None:
    """A shell cannot trap a signal that its parent ignores, such as SIGHUP under `nohup`."""
    for number in INTERRUPTIONS:
        signal.signal(number, signal.SIG_DFL)


def _saved_folders(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.glob("saved*"))


def test_a_backup_holds_the_dump(tmp_path: Path) -> None:
    assert _backup(tmp_path).wait(300) == 0
    assert _saved_folders(tmp_path) == ["saved"]
    assert (tmp_path / "saved" / "database.dump").read_text() == "half\n"


def test_a_failed_dump_leaves_no_files(tmp_path: Path) -> None:
    assert _backup(tmp_path, STATUS="3").wait(300) == 3
    assert _saved_folders(tmp_path) == []


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_an_interrupted_backup_leaves_no_files(tmp_path: Path, interruption: signal.Signals) -> None:
    process = _backup(tmp_path, HANGS=str(tmp_path / "hangs"))
    wait_until((tmp_path / "hangs").exists, 30, "the dump")
    os.killpg(process.pid, interruption)
    assert process.wait(300) != 0
    assert _saved_folders(tmp_path) == []
