"""The engine loads a version once, keeps the most recently used ones, and refuses damaged artifacts."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from models.architectures import build
from models.config import MMVAEConfig, ModalityConfig
from models.io import checkpoint
from models.ops.explain import explain, in_words
from models.predictor import Predictor
from service.inference.engine import Engine
from service.inference.queries import Computation, Version
from service.inference.rows import Rows
from service.shared.errors import Damaged, Exhausted, Unavailable
from service.shared.storage import FolderStorage, Storage

CONFIG = MMVAEConfig(modalities=(ModalityConfig(name="a", shape=(2,), likelihood="gaussian"),), latent_features=3)
WEIGHTS = Predictor(build(CONFIG)).memory_bytes
ROOM = 2**30
ROWS = Rows(2, {"a": np.ones((2, 2), dtype=np.float32)}, {"a": np.array([True, True])}, None)


def stored_version(store: Storage, folder: Path, number: int) -> Version:
    torch.manual_seed(number)
    path = folder / f"checkpoint{number}"
    checkpoint.save(build(CONFIG), path, {})
    stored = store.adopt("prj_a", path)
    return Version(f"mdv_{number}", "prj_a", "m", number, stored.sha256, stored.size_bytes, CONFIG)


def test_a_loaded_version_is_not_read_again(tmp_path: Path) -> None:
    store = FolderStorage(tmp_path / "store")
    version = stored_version(store, tmp_path, 1)
    engine = Engine(store, ROOM, threads=1)
    first = engine.answer(Computation(version, "encode"), ROWS)
    store.path("prj_a", version.sha256).unlink()
    np.testing.assert_array_equal(engine.answer(Computation(version, "encode"), ROWS)["mean"], first["mean"])


def test_the_log_names_the_kernels_of_a_loaded_version(tmp_path: Path) -> None:
    store = FolderStorage(tmp_path / "store")
    version = stored_version(store, tmp_path, 1)
    with capture_logs() as logged:
        Engine(store, ROOM, threads=1).answer(Computation(version, "encode"), ROWS)
    expected = in_words(explain(build(CONFIG).eval(), "cpu"))
    assert [entry["event"] for entry in logged] == [f"kernels of model 'm' version 1: {expected}"]


def test_the_least_recently_used_version_is_unloaded(tmp_path: Path) -> None:
    store = FolderStorage(tmp_path / "store")
    versions = [stored_version(store, tmp_path, number) for number in (1, 2, 3)]
    engine = Engine(store, 2 * WEIGHTS, threads=1)
    for index in (0, 1, 0, 2):
        engine.answer(Computation(versions[index], "encode"), ROWS)
    for version in versions:
        store.path("prj_a", version.sha256).unlink()
    engine.answer(Computation(versions[0], "encode"), ROWS)
    engine.answer(Computation(versions[2], "encode"), ROWS)
    with pytest.raises(Damaged, match="missing"):
        engine.answer(Computation(versions[1], "encode"), ROWS)


def test_a_damaged_version_is_served_after_its_artifact_is_restored(tmp_path: Path) -> None:
    store = FolderStorage(tmp_path / "store")
    version = stored_version(store, tmp_path, 1)
    path = store.path("prj_a", version.sha256)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    engine = Engine(store, 2 * WEIGHTS, threads=1)
    with pytest.raises(Damaged, match="model 'm' version 1 cannot be loaded"):
        engine.answer(Computation(version, "encode"), ROWS)
    path.write_bytes(whole)
    assert engine.answer(Computation(version, "encode"), ROWS)["mean"].shape == (2, 3)


def test_a_file_that_is_not_a_checkpoint_is_damaged(tmp_path: Path) -> None:
    """Such as one that a newer release wrote."""
    store = FolderStorage(tmp_path / "store")
    (tmp_path / "other").write_bytes(b"something else")
    stored = store.adopt("prj_a", tmp_path / "other")
    version = Version("mdv_1", "prj_a", "m", 1, stored.sha256, stored.size_bytes, CONFIG)
    with pytest.raises(Damaged, match="model 'm' version 1 cannot be loaded"):
        Engine(store, 2 * WEIGHTS, threads=1).answer(Computation(version, "encode"), ROWS)


def drawn(version: Version) -> Computation:
    return Computation(version, "reconstruct", {"targets": ["a"], "n_samples": 2, "seed": 7})


def test_many_threads_get_the_same_answers_as_one(tmp_path: Path) -> None:
    store = FolderStorage(tmp_path / "store")
    versions = [stored_version(store, tmp_path, number) for number in (1, 2, 3)]
    engine = Engine(store, 2 * WEIGHTS, threads=1)
    expected = [engine.answer(drawn(version), ROWS)["a"]["mean"] for version in versions]
    with ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(
                lambda n: engine.answer(drawn(versions[n % 3]), ROWS)["a"]["mean"],
                range(60),
            )
        )
    for n, answer in enumerate(answers):
        np.testing.assert_array_equal(answer, expected[n % 3])


def test_a_version_larger_than_the_memory_limit_unloads_no_other(tmp_path: Path) -> None:
    store = FolderStorage(tmp_path / "store")
    version = stored_version(store, tmp_path, 1)
    engine = Engine(store, 2 * WEIGHTS, threads=1)
    engine.load(version)
    wide = MMVAEConfig(modalities=CONFIG.modalities, latent_features=300)
    checkpoint.save(build(wide), tmp_path / "wide", {})
    stored = store.adopt("prj_a", tmp_path / "wide")
    too_large = Version("mdv_9", "prj_a", "wide", 1, stored.sha256, stored.size_bytes, wide)
    with pytest.raises(Exhausted, match=r"model 'wide' version 1 takes \d+ bytes of memory, an engine has"):
        engine.load(too_large)
    assert engine.holds(version)
    assert not engine.holds(too_large)


def test_a_batch_that_runs_out_of_memory_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mock: a real allocation failure would take the memory of other tests."""
    store = FolderStorage(tmp_path / "store")
    version = stored_version(store, tmp_path, 1)
    engine = Engine(store, ROOM, threads=1)
    predictor = engine.load(version)

    def fail(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    with monkeypatch.context() as patched:
        patched.setattr(predictor, "encode", fail)
        with pytest.raises(Unavailable, match="no memory left for 2 rows"):
            engine.answer(Computation(version, "encode"), ROWS)
    assert engine.answer(Computation(version, "encode"), ROWS)["mean"].shape == (2, 3)


def test_an_unloaded_version_is_loaded_again_with_the_next_request(tmp_path: Path) -> None:
    store = FolderStorage(tmp_path / "store")
    version = stored_version(store, tmp_path, 1)
    engine = Engine(store, ROOM, threads=1)
    first = engine.answer(Computation(version, "encode"), ROWS)["mean"]
    engine.unload(version)
    assert not engine.holds(version)
    np.testing.assert_array_equal(engine.answer(Computation(version, "encode"), ROWS)["mean"], first)
