"""A bundle is always the same bytes, any tar reads it, it loads as what it was made of, and nothing else passes."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import pytest
import torch

import models
from models.config import ModalityConfig
from models.io import bundle, checkpoint
from tests import bundles
from tests.models.small import MODALITIES, sequence_model, static_batch, static_model

DAMAGED = dict(bundles.damaged())
DECEIVING = dict(bundles.deceiving())
SPOILED = dict(bundles.spoiled())


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_the_same_version_gives_the_same_bytes() -> None:
    content = bundles.weights(static_model())
    first, again = bundles.packed(content), bundles.packed(content)
    shuffled = dict(reversed(bundles.manifest(content).items()))
    assert first == again
    assert first.startswith(bundle.prefix(shuffled, len(content)))  # type: ignore[arg-type]


def test_any_tar_reads_a_bundle(tmp_path: Path) -> None:
    content = bundles.weights(static_model())
    path = written(tmp_path / "b.tar", bundles.packed(content))
    with tarfile.open(path) as file:
        members = file.getmembers()
        assert [(one.name, one.isreg(), one.mode, one.mtime, one.uid, one.gid) for one in members] == [
            (name, True, 0o644, 0, 0, 0) for name in ("manifest.json", "model.safetensors")
        ]
        inside = file.extractfile(members[1])
        assert inside is not None
        assert inside.read() == content
    listed = subprocess.run(["tar", "tf", path], capture_output=True, text=True, check=True)  # noqa: S607
    assert (listed.stdout.split(), listed.stderr) == (["manifest.json", "model.safetensors"], "")


def test_the_layout_equals_that_of_earlier_versions() -> None:
    """Digests of what an earlier version wrote in front of and behind checkpoints of these sizes."""
    manifest = bundles.manifest(b"", config={}, lineage={})
    written = b"".join(bundle.prefix(manifest, size) + bundle.suffix(size) for size in (0, 1, 512, 8**11 - 1))
    assert hashlib.sha256(written).hexdigest() == "f5a8731b83b56c583763a0ce08b387d6182f7e45f439e0e64d1b8ad4b0d84719"


@pytest.mark.parametrize("size", [8**11, 9 * 2**30 + 7, 2**80])
def test_sizes_above_eight_gibibytes_are_written_as_gnu_tar_does(size: int) -> None:
    header = bundle.prefix(bundles.manifest(b""), size)[-512:]
    assert tarfile.TarInfo.frombuf(header, "utf-8", "strict").size == size


@pytest.mark.parametrize("magic", [b"ustar  \0", b"ustar\x0000"])
def test_a_sparse_bundle_of_nine_gibibytes_is_read(tmp_path: Path, magic: bytes) -> None:
    """Earlier versions wrote the magic of a POSIX header there."""
    size = 9 * 2**30 + 7
    said = bundles.manifest(b"", artifact={"name": "model.safetensors", "sha256": "0" * 64, "size_bytes": size})
    path = tmp_path / "b.tar"
    with path.open("wb") as file:
        start = bundle.prefix(said, size)
        header = bytearray(start[-512:])
        header[257:265], header[148:156] = magic, b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        file.write(start[:-512] + header)
        file.seek(size, os.SEEK_CUR)
        file.write(bundle.suffix(size))
    assert models.describe(path) == said
    with tarfile.open(path) as opened:
        assert [member.size for member in opened.getmembers()][1] == size


def test_a_bundle_is_read_as_it_was_written(tmp_path: Path) -> None:
    content, taken = bundles.weights(static_model()), io.BytesIO()
    path = written(tmp_path / "b.tar", bundles.packed(content))
    assert bundle.extract(path, taken) == models.describe(path) == bundles.manifest(content)
    assert taken.getvalue() == content


@pytest.mark.parametrize("model", [static_model(seed=3), sequence_model(seed=3)])
def test_a_loaded_bundle_is_the_loaded_checkpoint(
    model: models.MMVAE | models.MMVRNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    content = bundles.weights(model)
    bare = models.load(written(tmp_path / "m", content))
    carried = models.load(written(tmp_path / "b.tar", bundles.packed(content, model)))
    assert carried.config == bare.config == model.config
    assert list(scratch.iterdir()) == []
    if isinstance(model, models.MMVAE):
        batch = static_batch()
        given = [{name: tensor.numpy() for name, tensor in part.items()} for part in (batch.values, batch.present)]
        for one, other in zip(carried.encode(*given)[:2], bare.encode(*given)[:2], strict=True):
            assert one.tobytes() == other.tobytes()
    else:
        assert str(carried.sample(2, 3)) == str(bare.sample(2, 3))


def test_a_checkpoint_with_the_magic_of_tar_at_its_offset_is_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "m"
    for length in range(100):
        modality = ModalityConfig(name="x" * length + "ustar", shape=(3,), likelihood="gaussian")
        checkpoint.save(static_model((modality, *MODALITIES)), path, {})
        if path.read_bytes()[257:262] == b"ustar":
            break
    else:
        pytest.fail("no name put the word at byte 257")
    assert not bundle.is_bundle(path)
    assert models.load(path).config.modalities[0].name.endswith("ustar")


def test_bundles_are_described_without_torch(tmp_path: Path) -> None:
    path = written(tmp_path / "b.tar", bundles.whole())
    program = f"import models, pathlib; print(models.describe(pathlib.Path({str(path)!r}))['model'])"
    program += "\nimport sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["sounds", "False"]


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_bundle_is_refused_by_name(name: str, tmp_path: Path) -> None:
    path = written(tmp_path / "damaged.tar", DAMAGED[name])
    with pytest.raises(models.BundleError, match=r"damaged\.tar"):
        bundle.extract(path, io.BytesIO())
    if name == "a checkpoint":
        return
    with pytest.raises((models.BundleError, models.CheckpointError), match=r"damaged\.tar"):
        models.load(path)


def test_a_bundle_that_is_truncated_or_changed_outside_of_its_texts_is_refused(tmp_path: Path) -> None:
    content = bundles.weights(static_model())
    good = bundles.packed(content)
    start = len(bundle.prefix(bundles.manifest(content), len(content)))
    path = tmp_path / "b.tar"
    for length in range(0, len(good), 199):
        with pytest.raises(models.BundleError):
            bundle.extract(written(path, good[:length]), io.BytesIO())
    places = [
        *range(512),
        *range(start - 512, start),
        *range(start, len(good), 211),
        *range(len(good) - 1100, len(good)),
    ]
    for place in places:
        changed = bytearray(good)
        changed[place] ^= 0x41
        with pytest.raises(models.BundleError):
            bundle.extract(written(path, bytes(changed)), io.BytesIO())


@pytest.mark.parametrize("name", DECEIVING)
def test_a_forged_checkpoint_raises_an_error(name: str, tmp_path: Path) -> None:
    path, started = written(tmp_path / "lying", DECEIVING[name]), time.monotonic()
    for check in (models.load, models.verify):
        with pytest.raises(models.CheckpointError, match="lying"):
            check(path)
    with pytest.raises(models.CheckpointError, match=r"b\.tar: model.safetensors"):
        models.load(written(tmp_path / "b.tar", bundles.packed(DECEIVING[name])))
    assert time.monotonic() - started < 100


@pytest.mark.parametrize("name", SPOILED)
def test_weights_that_cannot_answer_are_not_verified(name: str, tmp_path: Path) -> None:
    with pytest.raises(models.CheckpointError, match=r"expected torch\.float32|not finite"):
        models.verify(written(tmp_path / "m", SPOILED[name]))


@pytest.mark.parametrize("model", [static_model(), sequence_model(), static_model(expert="mixture_of_products")])
def test_a_saved_checkpoint_is_verified(model: models.MMVAE | models.MMVRNN, tmp_path: Path) -> None:
    tensors = model.state_dict()
    path = tmp_path / "m"
    checkpoint.write(path, checkpoint.header(model, {}), tensors, extra={"optimizer": torch.full((2,), torch.nan)})
    assert models.verify(path) == model.config


def test_a_manifest_too_large_to_read_is_not_written() -> None:
    said = bundles.manifest(b"", description="x" * 5 * 2**20)
    with pytest.raises(models.BundleError, match="expected at most 4194304"):
        bundle.prefix(said, 0)


def test_the_digest_in_the_manifest_is_the_checkpoint_s(tmp_path: Path) -> None:
    content = bundles.weights(static_model())
    found = models.describe(written(tmp_path / "b.tar", bundles.packed(content)))["artifact"]
    assert found == {
        "name": "model.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
    }
