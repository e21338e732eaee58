"""The kernels are compiled where there is a compiler, and their absence is no error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.ops import build


def test_without_a_compiler_there_is_a_line_and_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "library", lambda processor: tmp_path / f"{processor}.so")
    monkeypatch.setattr(build, "COMPILERS", ("no-such-compiler",))
    assert "no C++ compiler" in build.build()
    assert not list(tmp_path.iterdir())


def test_it_builds_without_torch_or_anything_else_of_python(tmp_path: Path) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(Path(build.__file__).parent)!r})
import build
assert not {{"torch", "numpy"}} & sys.modules.keys()
print(build.library('DEFAULT').name)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path, env={**os.environ}
    )
    assert done.stdout.strip() == build.library("DEFAULT").name
