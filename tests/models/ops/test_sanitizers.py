"""The tests of the kernels once more, with libraries that stop at invalid accesses and undefined operations.

Weights and shapes that a kernel reads may come from an imported bundle, which is an upload.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.ops import build

FILES = ("test_elbo.py", "test_gru_loop.py", "test_philox.py", "test_posterior.py")


@pytest.mark.slow
def test_no_kernel_accesses_memory_out_of_bounds_or_has_undefined_behaviour(tmp_path: Path) -> None:
    compiler = build.compiler()
    runtime = compiler and _runtime(compiler)
    if compiler is None or runtime is None:
        pytest.skip("there is no C++ compiler with AddressSanitizer")
    assert build.build(tmp_path, build.SANITIZED) == "kernels: built"
    environment = {
        **os.environ,
        "KERNELS_UNDER_TEST": str(tmp_path),
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",  # the interpreter never frees everything
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",  # arrays of NumPy get borders of their own
        "OMP_NUM_THREADS": "2",
    }
    files = [str(Path(__file__).with_name(name)) for name in FILES]
    # opcheck is left out: it runs the compiler of torch, which is slow under sanitizers and is not what this tests
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-k",
        "not opcheck and not as_torch_asks",
        *files,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=800)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"


def _runtime(compiler: str) -> str | None:
    """The shared libraries that have to be loaded before all others.

    The C++ library is among them: AddressSanitizer looks for its functions when the process starts, before torch.
    """
    paths: list[str] = []
    for name in ("libasan.so", "libstdc++.so"):
        asked = [compiler, f"-print-file-name={name}"]
        path = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        if not Path(path).is_absolute() or not Path(path).exists():
            return None
        paths.append(path)
    return " ".join(paths)
