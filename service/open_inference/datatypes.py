"""Names of element types in the protocol, and NumPy's."""

import numpy as np

DTYPES: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype("bool"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""Binary tensors are little-endian on any machine."""
BYTES = "BYTES"
"""Texts, category names; in binary each stands behind its length, 4 bytes."""


def name_of(dtype: "np.dtype[np.generic]") -> str:
    """What the protocol calls the type of an answer."""
    if dtype.kind == "O":
        return BYTES
    if dtype.kind == "f":
        return "FP32"
    return "INT64" if dtype.kind in "iu" else "BOOL"
