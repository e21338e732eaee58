"""Packages with entry points, as pip leaves them in a folder."""

from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, module: str, content: str, entry_points: Mapping[str, Mapping[str, str]]) -> Path:
    """Write a package of one module. entry_points: group -> name -> object. Returns the folder, for the path."""
    (folder / f"{module}.py").write_text(content)
    information = folder / f"{module}-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
    lines = []
    for group, names in entry_points.items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in names.items())]
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder
