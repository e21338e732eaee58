"""The kernels are compiled where there is a compiler, and their absence is no error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.ops import build, library


def test_kernels_are_built_where_there_is_a_compiler() -> None:
    if build.compiler() is None:
        pytest.skip("there is no C++ compiler")
    assert library.available(), f"{library.NOT_BUILT}: {build.build()}"


def test_without_a_compiler_there_is_a_line_and_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no C++ compiler" in build.build(tmp_path)
    assert not list(tmp_path.iterdir())


def test_it_builds_without_torch_and_python_headers(tmp_path: Path) -> None:
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
