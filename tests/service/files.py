"""Files to upload, good and bad, made in memory."""

import io
import zipfile
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def npy(array: Array) -> bytes:
    """One array in .npy format."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def archive(members: dict[str, bytes]) -> bytes:
    """A compressed zip archive of these members."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for name, member in members.items():
            file.writestr(name, member)
    return content.getvalue()


def packed(**arrays: Array) -> bytes:
    """A compressed .npz file of these arrays."""
    return archive({f"{name}.npy": npy(array) for name, array in arrays.items()})
