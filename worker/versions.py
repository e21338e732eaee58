"""The versions of the code that computes here, for the lineage of what it makes."""

import importlib.metadata
import subprocess
from functools import cache
from pathlib import Path

from service.shared.settings import Settings

LIBRARIES = ("sensorium", "torch", "numpy")
GIT_SECONDS = 5.0


def library_versions() -> dict[str, str]:
    """The installed version of each library that a result depends on."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


@cache
def git_revision() -> str | None:
    """The commit of this code: the setting `git_revision`, or else that of the checkout it runs from."""
    if configured := Settings().git_revision:
        return configured
    folder = Path(__file__).parent.parent
    if not (folder / ".git").exists():  # git would search the parent folders and find another repository
        return None
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
