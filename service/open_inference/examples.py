"""Example bodies of the Open Inference Protocol, for the OpenAPI document: a model of images and their labels."""

from typing import Any

SERVER: dict[str, Any] = {
    "name": "sensorium",
    "version": "0.1.0",
    "extensions": [
        "binary_tensor_data",
        "model_configuration",
        "model_repository",
        "statistics",
        "schedule_policy",
    ],
}
METADATA: dict[str, Any] = {
    "name": "digits",
    "versions": ["3"],
    "platform": "sensorium_mmvae",
    "inputs": [
        {"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8], "optional": True},
        {"name": "label", "datatype": "INT64", "shape": [-1], "optional": True},
        {"name": "mask.image", "datatype": "BOOL", "shape": [-1], "optional": True},
        {"name": "mask.label", "datatype": "BOOL", "shape": [-1], "optional": True},
    ],
    "outputs": [
        {"name": "latent_mean", "datatype": "FP32", "shape": [-1, 16]},
        {"name": "latent_logvar", "datatype": "FP32", "shape": [-1, 16]},
        {"name": "recon.image", "datatype": "FP32", "shape": [-1, 1, 8, 8]},
        {"name": "recon.image.standard_deviation", "datatype": "FP32", "shape": [-1, 1, 8, 8]},
        {"name": "recon.label", "datatype": "FP32", "shape": [-1, 10]},
        {"name": "recon.label.category", "datatype": "INT64", "shape": [-1]},
        {"name": "impute.image", "datatype": "FP32", "shape": [-1, 1, 8, 8]},
        {"name": "impute.image.mean", "datatype": "FP32", "shape": [-1, 1, 8, 8]},
        {"name": "impute.image.standard_deviation", "datatype": "FP32", "shape": [-1, 1, 8, 8]},
        {"name": "impute.image.lower", "datatype": "FP32", "shape": [-1, 1, 8, 8]},
        {"name": "impute.image.upper", "datatype": "FP32", "shape": [-1, 1, 8, 8]},
        {"name": "impute.image.draws", "datatype": "FP32", "shape": [-1, -1, 1, 8, 8]},
        {"name": "impute.label", "datatype": "INT64", "shape": [-1]},
        {"name": "impute.label.probabilities", "datatype": "FP32", "shape": [-1, 10]},
        {"name": "impute.label.category", "datatype": "INT64", "shape": [-1]},
        {"name": "impute.label.draws", "datatype": "INT64", "shape": [-1, -1]},
        {"name": "calibration", "datatype": "BYTES", "shape": [-1]},
    ],
}
CONFIGURATION: dict[str, Any] = {
    "name": "digits",
    "platform": "sensorium_mmvae",
    "backend": "sensorium",
    "max_batch_size": 4096,
    "input": [
        {"name": "image", "data_type": "TYPE_FP32", "dims": [1, 8, 8], "optional": True},
        {"name": "mask.image", "data_type": "TYPE_BOOL", "dims": [], "optional": True},
    ],
    "output": [{"name": "latent_mean", "data_type": "TYPE_FP32", "dims": [16]}],
    "dynamic_batching": {},
}
_NONE = {"count": 0, "ns": 0}
STATISTICS: dict[str, Any] = {
    "model_stats": [
        {
            "name": "digits",
            "version": "3",
            "last_inference": 1795772963000,
            "inference_count": 640,
            "execution_count": 20,
            "inference_stats": {
                "success": {"count": 20, "ns": 84000000},
                "fail": _NONE,
                "queue": {"count": 20, "ns": 2100000},
                "compute_input": {"count": 20, "ns": 9800000},
                "compute_infer": {"count": 20, "ns": 61000000},
                "compute_output": {"count": 20, "ns": 5300000},
                "cache_hit": _NONE,
                "cache_miss": _NONE,
            },
            "batch_stats": [],
        }
    ]
}
INDEX_ENTRY: dict[str, Any] = {"name": "digits", "version": "3", "state": "READY", "reason": ""}
REQUEST: dict[str, Any] = {"inputs": [{"name": "label", "datatype": "INT64", "shape": [2], "data": [7, 3]}]}
ANSWER: dict[str, Any] = {
    "model_name": "digits",
    "model_version": "3",
    "outputs": [
        {"name": "latent_mean", "datatype": "FP32", "shape": [2, 2], "data": [0.41, -1.2, 0.07, 0.93]},
        {"name": "latent_logvar", "datatype": "FP32", "shape": [2, 2], "data": [-2.1, -1.8, -2.3, -1.7]},
    ],
}
