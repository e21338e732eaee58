"""`python models/ops/build.py`: compiles the C++ kernels, where there is a C++ compiler.

Needs nothing but Python. One library for each kind of processor, whatever this machine has: installations move.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCES = sorted(FOLDER.glob("*.cpp"))
# A library of another source is another file: what was built of an older one is never loaded.
_DIGEST = hashlib.sha256(b"".join(path.read_bytes() for path in [*SOURCES, *sorted(FOLDER.glob("*.h"))])).hexdigest()[
    :12
]

FLAGS = ["-std=c++17", "-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
COMPILERS = ("c++", "g++", "clang++")
# What torch calls kinds of processors, and how to compile for them; for none of these, as for arm64, DEFAULT.
PROCESSORS = {
    "AVX512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"],
    "AVX2": ["-mavx2", "-mfma"],
    "DEFAULT": [],
}


def library(processor: str) -> Path:
    """Where the library for a kind of processor is, or will be."""
    return FOLDER / f"_kernels-{platform.machine()}-{processor.lower()}-{_DIGEST}.so"


def build() -> str:
    """Compile what is not there; returns what came of it, in one line."""
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    for processor, own in PROCESSORS.items():
        if (own and platform.machine() not in ("x86_64", "AMD64")) or library(processor).exists():
            continue
        if compiler is None:
            return "kernels: not built, since there is no C++ compiler: PyTorch serves"
        # threads where the compiler has OpenMP
        done = _compile(compiler, [*own, "-fopenmp"], library(processor))
        if done.returncode:
            done = _compile(compiler, own, library(processor))
        if done.returncode:
            return (
                f"kernels: not built, since {compiler} failed: PyTorch serves: {done.stderr.strip().splitlines()[-1]}"
            )
    for older in {*FOLDER.glob("_kernels-*")} - {library(processor) for processor in PROCESSORS}:
        older.unlink()
    return "kernels: built"


def _compile(compiler: str, flags: list[str], to: Path) -> subprocess.CompletedProcess[str]:
    part = to.with_suffix(f".{os.getpid()}")
    command = [compiler, *FLAGS, *flags, "-Wno-psabi", *map(str, SOURCES), "-o", str(part)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        part.replace(to)  # whoever loads it sees all of it
    return done


if __name__ == "__main__":
    sys.stdout.write(f"{build()}\n")
