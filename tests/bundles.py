"""Bundles, whole ones and those that no reader should take: damaged, lying, or simply something else."""

import hashlib
import io
import json
import math
import struct
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from models.architectures import Model
from models.io import bundle, checkpoint, manifests
from models.io.manifests import Manifest
from tests.hostile import archive_stored
from tests.models.small import static_model
from tests.service.files import packed as npz

LINEAGE = {
    "run": "run_elsewhere",
    "attempt": 1,
    "dataset": "sounds",
    "dataset_version": 1,
    "dataset_sha256": "0" * 64,
    "seed": 3,
    "libraries": {"torch": "2"},
}


def weights(model: Model, header: Mapping[str, Any] | None = None, **changes: Tensor | None) -> bytes:
    """A checkpoint of a model, of which some tensors or fields of the header were exchanged or left out."""
    tensors = {name: changes.get(name.replace(".", "_"), tensor) for name, tensor in model.state_dict().items()}
    said = {**checkpoint.header(model, {}), **(header or {})}
    kept = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
    return save(kept, {checkpoint.HEADER: json.dumps(said)})


def manifest(content: bytes, of: Model | None = None, **changes: Any) -> Manifest:
    """The manifest of a checkpoint; a change to `...` leaves a field out."""
    said = {
        "format": manifests.FORMAT,
        "version": manifests.VERSION,
        "model": "sounds",
        "model_version": 3,
        "created_at": "2026-01-01T00:00:00Z",
        "description": "Of an engine.",
        "tags": ["spring"],
        "signature": {},
        "config": (of or static_model()).config.model_dump(mode="json"),
        "metrics": {"loss": 2.5, "kl": None},
        "lineage": LINEAGE,
        "artifact": {
            "name": manifests.ARTIFACT,
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_bytes": len(content),
        },
    }
    return cast(Manifest, {name: value for name, value in {**said, **changes}.items() if value is not ...})


def packed(content: bytes, of: Model | None = None, **changes: Any) -> bytes:
    """A bundle of a checkpoint."""
    size = len(content)
    return bundle.prefix(manifest(content, of, **changes), size) + content + bundle.suffix(size)


def whole(seed: int = 0) -> bytes:
    """A bundle that everybody takes."""
    return packed(weights(static_model(seed=seed)))


def damaged() -> Iterator[tuple[str, bytes]]:
    """Files that are no bundles, each by what is wrong with it."""
    content = weights(static_model())
    good, start = packed(content), len(bundle.prefix(manifest(content), len(content)))
    yield "empty", b""
    yield "one byte", b"\0"
    yield "zeros", bytes(10240)
    yield "a zip", archive_stored({"manifest.json": b"{}"})
    yield "an upload", npz(x=np.zeros((3, 2)))
    yield "a checkpoint", content
    yield "cut in the manifest", good[:700]
    yield "cut in the checkpoint", good[: start + 1000]
    yield "cut before the end", good[:-1]
    yield "without the end", good[:-1024]
    yield "a byte more", good + b"\0"
    yield "another bundle behind it", good + good
    yield "zeros behind it, as other programs write them", good + bytes(10240 - len(good) % 10240)
    yield "words in the padding", good[:-1030] + b"secret" + good[-1024:]
    yield "words in the end", good[:-6] + b"secret"
    yield "another weight", good[: start + 5000] + bytes([good[start + 5000] ^ 1]) + good[start + 5001 :]
    yield "wrong checksum", good[:148] + b"000000" + good[154:]
    for name, members in _members(content):
        yield name, _tar(members)
    yield "another order", _tar(list(reversed(_parts(content))))
    yield "GNU tar's header", _tar(_parts(content), tarfile.GNU_FORMAT)
    yield "pax header", _tar(_parts(content, pax_headers={"comment": "x"}), tarfile.PAX_FORMAT)
    yield "somebody's own file", _tar(_parts(content, uid=1000, mtime=5))
    yield "an executable", _tar(_parts(content, mode=0o755))
    for name, text in _manifests(content):
        yield name, _tar([(tarfile.TarInfo("manifest.json"), text), _parts(content)[1]])
    wrong: list[dict[str, Any]] = [{"size_bytes": size} for size in (len(content) + 1, -1, "9", 2**90)]
    wrong += [{"sha256": "0" * 64}, {"sha256": 5}, {"name": "../model.safetensors"}]
    for changes in wrong:
        artifact = {**manifest(content)["artifact"], **changes}
        yield f"artifact says {changes}", packed(content, artifact=artifact)
    yield "artifact is a list", packed(content, artifact=[])
    yield "a size of 8 EiB", good[:124] + b"\x80" + (2**63).to_bytes(11, "big") + good[136:]
    yield "a negative size", good[:124] + b"\xff" * 12 + good[136:]


def deceiving() -> Iterator[tuple[str, bytes]]:
    """Checkpoints whose digest is right and that no model can be made of."""
    model = static_model()
    good, config = weights(model), model.config.model_dump(mode="json")
    name = next(iter(model.state_dict()))
    key, tensor = name.replace(".", "_"), model.state_dict()[name]
    length = struct.unpack("<Q", good[:8])[0]
    yield "nothing", b""
    yield "noise", bytes(range(256)) * 20
    yield "a header longer than the file", struct.pack("<Q", 2**62) + good[8:]
    yield "a header of noise", struct.pack("<Q", 64) + b"\xfe" * 64
    yield "a header nested deep", _headed(b'{"a":' + b"[" * 100_000)
    yield "tensors over the end", good[:-64]
    yield "bytes that belong to no tensor", good + bytes(64)
    yield (
        "tensors of a type that is none",
        _headed(good[8 : 8 + length].replace(b'"F32"', b'"F99"')) + good[8 + length :],
    )
    yield "another format", weights(model, {"format": "other"})
    yield "a newer version", weights(model, {"version": 99})
    yield "a version in words", weights(model, {"version": "1"})
    yield "parts of somebody's own", weights(model, {"parts": ["encoders.audio"]})
    yield "parts that are no list", weights(model, {"parts": {"os.system": "true"}})
    yield "our header is a list", save({"w": torch.zeros(1)}, {checkpoint.HEADER: "[1]"})
    yield "our header is not JSON", save({"w": torch.zeros(1)}, {checkpoint.HEADER: "{"})
    yield "our header is nested deep", save({"w": torch.zeros(1)}, {checkpoint.HEADER: "[" * 100_000})
    yield "no header of ours", save({"w": torch.zeros(1)})
    yield "no config", weights(model, {"config": None})
    yield "a config of a class", weights(model, {"config": {**config, "network": {"name": "os.system"}}})
    yield "too many latent features", weights(model, {"config": {**config, "latent_features": 10**9}})
    for sizes in ([10**12], [10**18, 10**18], [2**63 - 1], [10**400]):
        modalities = [{**config["modalities"][0], "shape": sizes}]
        yield f"a modality of shape {str(sizes)[:30]}", weights(model, {"config": {**config, "modalities": modalities}})
    categories = [{**config["modalities"][2], "categories": 10**15}]
    yield "categories without end", weights(model, {"config": {**config, "modalities": categories}})
    yield "another config", weights(model, {"config": {**config, "latent_features": 5}})
    yield "a tensor less", weights(model, None, **{key: None})
    yield "a tensor of another shape", weights(model, None, **{key: tensor[:1].clone()})
    yield "names of other tensors", save({"../../etc/passwd": torch.zeros(1)}, _metadata(model))


def spoiled() -> Iterator[tuple[str, bytes]]:
    """Checkpoints that can be loaded, and would answer nonsense or nothing."""
    model = static_model()
    name = next(iter(model.state_dict()))
    key, tensor = name.replace(".", "_"), model.state_dict()[name]
    for number in (math.nan, math.inf, -math.inf):
        poisoned = tensor.clone()
        poisoned.view(-1)[-1] = number
        yield f"a weight that is {number}", weights(model, None, **{key: poisoned})
    yield "weights of 64 bits", weights(model, None, **{key: tensor.double()})
    yield "weights of 16 bits", weights(model, None, **{key: tensor.half()})


def _metadata(model: Model) -> dict[str, str]:
    return {checkpoint.HEADER: json.dumps(checkpoint.header(model, {}))}


def _headed(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def _parts(content: bytes, **fields: Any) -> list[tuple[tarfile.TarInfo, bytes]]:
    members = []
    for name, inside in (("manifest.json", json.dumps(manifest(content)).encode()), ("model.safetensors", content)):
        member = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(member, field, value)
        members.append((member, inside))
    return members


def _members(content: bytes) -> Iterator[tuple[str, list[tuple[tarfile.TarInfo, bytes]]]]:
    yield "no members", []
    yield "a manifest alone", _parts(content)[:1]
    yield "a third member", [*_parts(content), (tarfile.TarInfo("readme.txt"), b"hello")]
    yield "a member in front", [(tarfile.TarInfo("readme.txt"), b"hello"), *_parts(content)]
    yield "a manifest twice", [_parts(content)[0], *_parts(content)]
    for place in (0, 1):
        for name in ("/etc/passwd", "../model.safetensors", "./manifest.json", "model.safetensors/", "MANIFEST.JSON"):
            members = _parts(content)
            members[place][0].name = name
            yield f"member {place} is called {name}", members
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"\0", b"7"):
            members = _parts(content)
            members[place][0].type = kind
            members[place][0].linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            yield f"member {place} is of kind {kind!r}", members


def _manifests(content: bytes) -> Iterator[tuple[str, bytes]]:
    yield "a manifest of nothing", b""
    yield "a manifest of noise", b"\xfe\xff\x00"
    yield "a manifest that is a list", b"[]"
    yield "a manifest that is cut", json.dumps(manifest(content)).encode()[:-5]
    yield "a manifest nested deep", b"[" * 200_000
    yield "a manifest of 5 MiB", json.dumps({**manifest(content), "description": "x" * 5 * 2**20}).encode()
    yield "a manifest with a number of a thousand digits", b'{"version": ' + b"9" * 5000 + b"}"
    yield "a manifest with NaN", json.dumps({**manifest(content), "metrics": {"loss": math.nan}}).encode()
    yield "a manifest with too large a number", json.dumps(manifest(content)).replace("2.5", "1e999").encode()
    fields: list[dict[str, Any]] = [{"format": "other"}, {"format": None}, {"version": 2}, {"version": 0}]
    fields += [{"version": True}, {"version": "1"}, {"version": 1.0}, {"version": None}]
    for changes in fields:
        yield f"a manifest of {changes}", json.dumps({**manifest(content), **changes}).encode()
    for name in sorted(Manifest.__required_keys__):
        yield f"a manifest without {name}", json.dumps(manifest(content, **{name: ...})).encode()


def _tar(members: list[tuple[tarfile.TarInfo, bytes]], format: int = tarfile.USTAR_FORMAT) -> bytes:
    """What tarfile makes of members, ended as a bundle is."""
    content = io.BytesIO()
    for member, inside in members:
        member.size = len(inside)
        content.write(member.tobuf(format) + inside + bytes(-len(inside) % 512))
    return content.getvalue() + bytes(1024)
