"""Headers of plain files in a tar as POSIX describes it (ustar), always with the same owner, mode and time."""

import re
import struct

BLOCK = 512
END = bytes(2 * BLOCK)
MAGIC = b"ustar\0"
MAGIC_AT = 257

# Name, mode, owner, group, size, time; the checksum; kind, link, magic, version, names, devices, prefix; nothing.
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
_MODE = b"0000644\0"
_ZERO = b"0000000\0"
_CHECKSUM_AT = slice(148, 156)
_REGULAR = b"0"
# From here on eleven octal digits are too few, and the number itself stands there behind a set bit, as GNU tar does.
_MOST_OCTAL = 8**11


def header(name: str, size: int) -> bytes:
    """The block in front of a file of `size` bytes."""
    block = _HEADER.pack(
        name.encode("ascii"), _MODE, _ZERO, _ZERO, _number(size), _number(0), b" " * 8,
        _REGULAR, b"", MAGIC, b"00", b"", b"", b"", b"", b"",
    )  # fmt: skip
    return block[: _CHECKSUM_AT.start] + b"%06o\0 " % sum(block) + block[_CHECKSUM_AT.stop :]


def padding(size: int) -> bytes:
    """What fills the last block of a file of `size` bytes."""
    return bytes(-size % BLOCK)


def size_in(block: bytes, name: str) -> int:
    """The size in a header that is exactly what `header` makes for a file of this name. Raises ValueError."""
    if len(block) < BLOCK:
        raise ValueError(f"it ends where the header of {name!r} was expected")
    fields = _HEADER.unpack(block)
    found, size, kind, magic = fields[0].rstrip(b"\0"), fields[4], fields[7], fields[9]
    if magic != MAGIC:
        raise ValueError(f"where the header of {name!r} was expected is none of a POSIX tar (ustar), but {magic!r}")
    if found != name.encode("ascii"):
        raise ValueError(f"a member is called {found.decode('ascii', 'backslashreplace')!r}, expected {name!r}")
    if kind != _REGULAR:
        raise ValueError(f"{name!r} is of kind {kind!r}, expected a regular file ({_REGULAR!r})")
    if re.fullmatch(rb"[0-7]{11}\0", size):
        number = int(size[:-1], 8)
    elif size[:1] == b"\x80":
        number = int.from_bytes(size[1:], "big")
    else:
        raise ValueError(f"the size of {name!r} is {size!r}, expected eleven octal digits, or a binary number")
    if block != header(name, number):
        raise ValueError(
            f"the header of {name!r} has a wrong checksum, or other fields than mode 644, owner 0 and time 0"
        )
    return number


def _number(value: int) -> bytes:
    return b"%011o\0" % value if value < _MOST_OCTAL else b"\x80" + value.to_bytes(11, "big")
