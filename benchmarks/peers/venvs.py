"""Environments of the peers under var/peers, never a dependency of ours. torch and numpy are installed once for all."""

import importlib.util
import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path("var/peers").absolute()
PINS = Path(__file__).parent
TORCH = "torch==2.13.0"  # which wheel fits (CPU, CUDA) is pip's choice, as in our own environment
NUMPY = "numpy==2.4.6"


def python(peer: str) -> Path:
    """The interpreter of a peer's environment, which is made when there is none of these pins."""
    folder, pins = FOLDER / peer, (PINS / f"{peer}.txt").read_text()
    done = folder / "installed.txt"
    found = folder / "bin" / "python"
    if done.is_file() and done.read_text() == pins:
        return found
    print(f"installing {peer} into {folder.relative_to(Path.cwd())}", flush=True)
    torch = _torch()
    venv.create(folder, clear=True, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "torch.pth").write_text(f"{torch}\n")  # its own packages come first
    _pip("--python", str(found), "install", "--requirement", str(PINS / f"{peer}.txt"))
    done.write_text(pins)
    return found


def _torch() -> Path:
    """The folder of what all of them compute with."""
    folder = FOLDER / "torch"
    done = folder / "installed.txt"
    if not done.is_file() or done.read_text() != TORCH + NUMPY:
        _pip("install", "--upgrade", "--target", str(folder), TORCH, NUMPY)
        done.write_text(TORCH + NUMPY)
    return folder


def _pip(*arguments: str) -> None:
    # Debian's python without ensurepip makes environments that have no pip: the host's does it, as in the Makefile.
    python = sys.executable if importlib.util.find_spec("pip") else "python3"
    command = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    if subprocess.run(command).returncode:
        raise SystemExit(f"pip could not install the peers: {' '.join(arguments)}")
