"""The memory limit of a conversion: a file that needs more is bad input, and other processes keep their memory."""

import resource
from pathlib import Path

from service.shared.errors import BadInput, Fault

STATM = Path("/proc/self/statm")
STATM_DATA = 5  # the field "data + stack", in pages (proc_pid_statm(5))


def limit(max_bytes: int) -> None:
    """Let this process allocate at most max_bytes more: further allocations raise MemoryError.

    RLIMIT_DATA counts private writable mappings (setrlimit(2)): what malloc takes, but no files that are mapped for
    reading. The limit lasts until the process exits. Systems without /proc get none.
    """
    if not STATM.exists():
        return
    used = int(STATM.read_text().split()[STATM_DATA]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = used + max_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def too_large(max_bytes: int) -> BadInput:
    """The fault of a file whose conversion reached the limit."""
    detail = (
        f"the conversion of the file needs more than {max_bytes} bytes of memory: write smaller rows, or smaller row "
        "groups and pages in Parquet; the operator can raise SENSORIUM_CONVERSION_MEMORY_BYTES"
    )
    return BadInput([Fault("", "too_large", detail)])
