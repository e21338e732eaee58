"""The manifest of a bundle: the facts of its model version, as JSON."""

import json
import math
import re
from typing import Any, NoReturn, NotRequired, TypedDict, TypeGuard, cast

from models.config.wording import shown

FORMAT = "sensorium-bundle"
VERSION = 1
ARTIFACT = "model.safetensors"

_SHA256 = re.compile("[0-9a-f]{64}")


class Contents(TypedDict):
    """The checkpoint within a bundle."""

    name: str
    sha256: str
    size_bytes: int


class Manifest(TypedDict):
    """The manifest of a bundle.

    `parse` checks `format`, `version` and `artifact`, and that every required field exists. Callers check the other
    fields before they use them.
    """

    format: str
    version: int
    model: str
    model_version: int
    created_at: str
    description: str | None
    tags: list[str]
    signature: dict[str, Any]
    config: dict[str, Any]
    metrics: dict[str, Any]
    lineage: dict[str, Any]
    evaluation: NotRequired[dict[str, Any] | None]
    artifact: Contents


def parse(content: bytes) -> Manifest:
    """Parse a manifest. Raises ValueError with a text that continues a sentence after the name of the manifest."""
    try:
        found = json.loads(content.decode(), parse_constant=_not_finite, parse_float=_finite)
    except (UnicodeDecodeError, RecursionError) as error:
        raise ValueError("is not JSON: it is not UTF-8, or nested too deep") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON at line {error.lineno}, column {error.colno}") from error
    except ValueError as error:  # NaN or an infinity, or a number with too many digits
        raise ValueError("is not JSON: it has NaN, Infinity, or a number that is too long") from error
    if not isinstance(found, dict):
        raise ValueError(f"is {shown(found)}, expected an object")
    if found.get("format") != FORMAT:
        raise ValueError(f"has format {str(found.get('format'))[:40]!r}, expected {FORMAT!r}")
    version = found.get("version")
    if not _is_count(version) or not 1 <= version <= VERSION:
        raise ValueError(f"has version {str(version)[:40]}, expected at most {VERSION}: upgrade to read it")
    if lacking := sorted(Manifest.__required_keys__ - found.keys()):
        raise ValueError(f"lacks {', '.join(lacking)}")
    artifact = found["artifact"]
    if not isinstance(artifact, dict) or artifact.get("name") != ARTIFACT:
        raise ValueError(f"describes {str(artifact)[:80]!r} as its artifact, expected {ARTIFACT!r}")
    if not _is_count(artifact.get("size_bytes")) or not _SHA256.fullmatch(str(artifact.get("sha256"))):
        raise ValueError("describes an artifact with no size_bytes, or no sha256 of 64 hexadecimal digits")
    return cast(Manifest, found)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _finite(text: str) -> float:
    return float(text) if math.isfinite(float(text)) else _not_finite(text)


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is not a JSON number")
