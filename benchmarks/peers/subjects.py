"""The models that are served, the bodies that ask them, and a way into a service for them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import torch

import models
from benchmarks.peers.encoder import FEATURES, MODALITIES
from models.config import MLPConfig, MMVAEConfig, MMVRNNConfig, ModalityConfig
from models.io import bundle, manifests
from models.io.manifests import Manifest

Arrays = Mapping[str, np.ndarray]

SEQUENCE = {"a": 128, "b": 64, "c": 32}
STEPS = 100


def encoder_config() -> MMVAEConfig:
    """Three modalities of 32 numbers each, a latent of 16: means and standard deviations are 32 numbers."""
    modalities = tuple(ModalityConfig(name=name, shape=(FEATURES,), likelihood="gaussian") for name in MODALITIES)
    return MMVAEConfig(
        latent_features=16, expert="product", network=MLPConfig(hidden_features=(64,)), modalities=modalities
    )


def sequence_config() -> MMVRNNConfig:
    """The realistic sizes: modalities of 128, 64 and 32, features, hidden and GRU of 128, a latent of 32."""
    return MMVRNNConfig(
        latent_features=32,
        modality_features=128,
        hidden_features=128,
        recurrent_features=128,
        network=MLPConfig(hidden_features=(128,)),
        modalities=tuple(
            ModalityConfig(name=name, shape=(size,), likelihood="gaussian") for name, size in SEQUENCE.items()
        ),
    )


def write(config: MMVAEConfig | MMVRNNConfig, path: Path) -> None:
    """A checkpoint of this config, with weights as they are before a training, always the same."""
    torch.manual_seed(0)
    model = models.build(config)
    drawn = np.random.default_rng(0)
    model.set_statistics({one.name: (_normal(drawn, one), 1 + _normal(drawn, one).abs()) for one in config.modalities})
    models.save(model, path, {})


def values(rows: int) -> dict[str, np.ndarray]:
    """What the encoder is asked about, (rows, 32) of each modality."""
    drawn = np.random.default_rng(1)
    return {name: drawn.standard_normal((rows, FEATURES), np.float32) for name in MODALITIES}


def sequences() -> dict[str, np.ndarray]:
    """One sequence, (1, steps, size) of each modality."""
    drawn = np.random.default_rng(2)
    return {name: drawn.standard_normal((1, STEPS, size), np.float32) for name, size in SEQUENCE.items()}


def as_json(arrays: Arrays) -> bytes:
    """As our API, LitServe's program and MLflow's take it."""
    return json.dumps({"inputs": {name: array.tolist() for name, array in arrays.items()}}).encode()


def as_rows(arrays: Arrays) -> bytes:
    """As BentoML's program takes it."""
    return json.dumps({"inputs": np.concatenate([arrays[name] for name in MODALITIES], axis=1).tolist()}).encode()


def as_tensors(arrays: Arrays) -> tuple[bytes, dict[str, str]]:
    """A body of the Open Inference Protocol with binary tensors in and out, and its headers."""
    described = [
        {
            "name": name,
            "datatype": "FP32",
            "shape": list(array.shape),
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in arrays.items()
    ]
    head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return b"".join([head, *(array.tobytes() for array in arrays.values())]), headers


def predicted(predictor: models.Predictor, arrays: Arrays) -> np.ndarray:
    """Means and standard deviations behind one another, (rows, ..., 2 Z), as our engine computes them in process."""
    lead = 1 if predictor.config.kind == "static" else 2
    latent = predictor.encode(arrays, {name: np.ones(array.shape[:lead], bool) for name, array in arrays.items()})
    return np.concatenate([latent.mean, latent.standard_deviation], axis=-1)


def answered(answer: httpx.Response, rows: int) -> np.ndarray:
    """The same out of anybody's answer."""
    length = answer.headers.get("inference-header-content-length")
    if length is not None:
        mean, log_variance = np.frombuffer(answer.content[int(length) :], np.float32).reshape(2, rows, -1)
        return np.concatenate([mean, np.exp(log_variance / 2)], axis=-1)
    found: Any = answer.json()
    if isinstance(found, list):
        return np.array(found)
    found = found.get("predictions", found)
    return np.concatenate([found["mean"], found["standard_deviation"]], axis=-1)


def register(url: str, key: str, name: str, checkpoint: Path, config: MMVAEConfig | MMVRNNConfig) -> None:
    """Import a checkpoint as version 1 of a model."""
    content = checkpoint.read_bytes()
    manifest: Manifest = {
        "format": manifests.FORMAT,
        "version": manifests.VERSION,
        "model": name,
        "model_version": 1,
        "created_at": "2026-01-01T00:00:00Z",
        "description": None,
        "tags": [],
        "signature": {},
        "config": config.model_dump(mode="json"),
        "metrics": {},
        "lineage": {**_NOTHING, "libraries": {}},
        "artifact": {
            "name": manifests.ARTIFACT,
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_bytes": len(content),
        },
    }
    body = bundle.prefix(manifest, len(content)) + content + bundle.suffix(len(content))
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/octet-stream"}
    answer = httpx.post(f"{url}/v1/bundles", content=body, headers=headers, timeout=60)
    if not answer.is_success:
        raise SystemExit(f"the model was not imported: {answer.status_code} {answer.text[:2000]}")


_NOTHING: dict[str, Any] = dict.fromkeys(("run", "attempt", "dataset", "dataset_version", "dataset_sha256", "seed"))


def _normal(drawn: np.random.Generator, modality: ModalityConfig) -> torch.Tensor:
    return torch.from_numpy(drawn.standard_normal(modality.shape, np.float32))
