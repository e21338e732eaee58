"""Exports versions as bundles, and imports bundles. Everything in a bundle is checked before it is stored."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, field_validator
from sqlalchemy.orm import Session

import models
from models.config import parse
from models.config.wording import sentences
from models.io import bundle, manifests
from models.io.manifests import ARTIFACT, Manifest
from service.registry import operations as registry
from service.registry import schemas
from service.registry.schemas import Description, Evaluation, Tags
from service.shared import garbage_collection, storage
from service.shared.errors import BadInput, Fault
from service.shared.resource_names import Name
from service.shared.storage import Stored, Writer

MAX_FAULTS = 20
MAX_CHARACTERS = 1000
MAX_LEVELS = 30
# Databases refuse zero characters, and UTF-8 cannot encode half of a surrogate pair.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
_Number = Annotated[int, Field(ge=0, le=2**63 - 1)]
_Word = Annotated[str, Field(max_length=200)]


class _Kernel(schemas.Kernel):
    operation: _Word
    reason: _Word | None


class _Lineage(schemas.Lineage):
    """A lineage whose numbers and texts fit into the database."""

    run: _Word | None
    attempt: _Count | None
    step: _Number | None = None
    dataset: _Word | None
    dataset_version: _Count | None
    dataset_sha256: _Word | None
    seed: _Number | None
    libraries: dict[_Word, _Word] = Field(max_length=100)
    git_revision: _Word | None = None
    kernels: list[_Kernel] | None = Field(default=None, max_length=100)  # type: ignore[assignment]


class _ManifestFields(BaseModel):
    """The fields of a manifest that are stored."""

    model: Name
    model_version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    description: Description | None
    tags: Tags
    metrics: dict[_Word, Annotated[float, Field(allow_inf_nan=False)] | None] = Field(max_length=1000)
    lineage: _Lineage
    evaluation: Evaluation | None = None

    @field_validator("evaluation")
    @classmethod
    def _evaluation_can_be_stored(cls, evaluation: Evaluation | None) -> Evaluation | None:
        if evaluation is not None and "\\u0000" in evaluation.model_dump_json():
            raise ValueError("has a zero character, which databases refuse")
        return evaluation


def manifest_of(version: schemas.ModelVersion) -> Manifest:
    """The manifest of a version for its bundle."""
    body = version.model_dump(mode="json")
    return {
        "format": manifests.FORMAT,
        "version": manifests.VERSION,
        "model": version.model,
        "model_version": version.version,
        "created_at": body["created_at"],
        "description": version.description,
        "tags": version.tags,
        "signature": body["signature"],
        "config": body["config"],
        "metrics": body["metrics"],
        "lineage": body["lineage"],
        "evaluation": body["evaluation"],
        "artifact": {"name": ARTIFACT, "sha256": version.sha256, "size_bytes": version.size_bytes},
    }


def unpack(path: Path, to: Writer) -> Manifest:
    """Write the checkpoint of the bundle at `path` to `to`, check both, and return the manifest.

    Raises BadInput.
    """
    try:
        manifest = bundle.extract(path, to)
    except models.BundleError as error:
        raise _refused("not_a_bundle", str(error).replace(path.name, "the file")) from error
    to.flush()
    _fields_of(manifest)
    try:
        config = models.verify(to.path)
    except models.CheckpointError as error:
        raise _refused("unusable_model", str(error).replace(to.path.name, ARTIFACT)) from error
    garbage_collection.freeze()  # torch may have been imported just now
    try:
        same = parse(manifest["config"]) == config
    except ValidationError as error:
        why = "; ".join(detail for _, detail in sentences(error)[:MAX_FAULTS])
        raise _refused("invalid_manifest", f"{bundle.MANIFEST}: config: {why}") from error
    if not same:
        raise _refused("invalid_manifest", f"{bundle.MANIFEST}: config is not the one that {ARTIFACT} was built with")
    return manifest


def register(
    session: Session, project_id: str, name: str | None, manifest: Manifest, stored: Stored, max_bytes: int | None
) -> schemas.ModelVersion:
    """Make an unpacked checkpoint the next version of a model: of this name, or else of the name in the manifest.

    max_bytes: what the project may store. Raises BadInput, QuotaExceeded.
    """
    fields = _fields_of(manifest)
    origin = schemas.Origin(model=fields.model, version=fields.model_version, artifact_sha256=stored.sha256)
    lineage = fields.lineage.model_copy(update={"imported_from": origin})
    name = name or fields.model
    number = registry.add_version(
        session,
        project_id,
        name,
        storage.record(session, stored, max_bytes).id,
        parse(manifest["config"]).model_dump(mode="json"),
        fields.metrics,
        lineage,
        fields.evaluation.model_dump(mode="json") if fields.evaluation else None,
        description=fields.description,
        tags=fields.tags,
    )
    return registry.get_version(session, project_id, name, number)


def _fields_of(manifest: Manifest) -> _ManifestFields:
    if fault := next(_unstorable(manifest, 0), None):
        raise _refused("invalid_manifest", f"{bundle.MANIFEST}: {fault}")
    try:
        return _ManifestFields.model_validate(manifest)
    except ValidationError as error:
        details = [f"{bundle.MANIFEST}: {detail[:MAX_CHARACTERS]}" for _, detail in sentences(error)[:MAX_FAULTS]]
        raise BadInput([Fault("", "invalid_manifest", detail) for detail in details]) from error


def _unstorable(value: Any, level: int) -> Iterator[str]:
    """Everything in a manifest that a database or a client cannot represent."""
    if level > MAX_LEVELS:
        yield f"is nested more than {MAX_LEVELS} levels deep"
    elif isinstance(value, str) and (match := _UNSTORABLE.search(value)):
        yield f"a text has {match[0]!r} in it, expected Unicode characters except zero"
    elif isinstance(value, int) and abs(value) >= 2**63:
        yield "a whole number has more than 64 bits"
    elif isinstance(value, dict | list):
        inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        for item in inner:
            yield from _unstorable(item, level + 1)


def _refused(code: str, detail: str) -> BadInput:
    return BadInput([Fault("", code, detail if len(detail) <= MAX_CHARACTERS else detail[:MAX_CHARACTERS] + "…")])
