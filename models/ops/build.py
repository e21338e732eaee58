"""`python models/ops/build.py`: compiles the C++ kernels, where there is a C++ compiler.

It needs only Python. It makes one library for each kind of processor, whatever processor this machine has, because
installations move between machines.
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
# In the library's file name: a library of older sources is never loaded.
_DIGEST = hashlib.sha256(b"".join(path.read_bytes() for path in [*SOURCES, *sorted(FOLDER.glob("*.h"))])).hexdigest()[
    :12
]

FLAGS = ["-std=c++17", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
FAST = ["-O3"]
# Stops at the first access outside an array, and at the first undefined operation.
SANITIZED = ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
COMPILERS = ("c++", "g++", "clang++")
# The names that torch has for kinds of processors, and the flags for each. Others, such as arm64, take DEFAULT.
PROCESSORS = {
    "AVX512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"],
    "AVX2": ["-mavx2", "-mfma"],
    "DEFAULT": [],
}


def library(processor: str, folder: Path = FOLDER) -> Path:
    """The file of the library for a kind of processor, whether or not it exists."""
    return folder / f"_kernels-{platform.machine()}-{processor.lower()}-{_DIGEST}.so"


def compiler() -> str | None:
    """The C++ compiler of this machine."""
    return next((found for name in COMPILERS if (found := shutil.which(name))), None)


def build(folder: Path = FOLDER, own: list[str] = FAST) -> str:
    """Compile the libraries that are missing. own: FAST or SANITIZED. Returns the outcome in one line."""
    found = compiler()
    for processor, flags in PROCESSORS.items():
        path = library(processor, folder)
        if (flags and platform.machine() not in ("x86_64", "AMD64")) or path.exists():
            continue
        if found is None:
            return "kernels: not built, there is no C++ compiler; PyTorch serves"
        # with threads where the compiler has OpenMP
        done = _compile(found, [*own, *flags, "-fopenmp"], path)
        if done.returncode:
            done = _compile(found, [*own, *flags], path)
        if done.returncode:
            return f"kernels: not built, {found} failed; PyTorch serves: {done.stderr.strip().splitlines()[-1]}"
    for older in {*folder.glob("_kernels-*")} - {library(processor, folder) for processor in PROCESSORS}:
        older.unlink()
    return "kernels: built"


def _compile(compiler: str, flags: list[str], to: Path) -> subprocess.CompletedProcess[str]:
    part = to.with_suffix(f".{os.getpid()}")
    command = [compiler, *FLAGS, *flags, "-Wno-psabi", *map(str, SOURCES), "-o", str(part)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        part.replace(to)  # no process loads a part of it
    return done


if __name__ == "__main__":
    sys.stdout.write(f"{build()}\n")
