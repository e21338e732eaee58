"""Example bodies of uploads and datasets, for the OpenAPI document: 200 recordings of which some have a text."""

from typing import Any

UPLOAD: dict[str, Any] = {
    "id": "upl_01KA3M5Q7R9T2V4X6Z8B0D1F3H",
    "format": "npz",
    "size_bytes": 2939,
    "sha256": "ca66a8c9a490a39eabf5fd78730f0224bd1853aa918e323a530f5a8a24ba64aa",
    "arrays": [
        {"name": "audio", "shape": [200, 3], "dtype": "<f4"},
        {"name": "text", "shape": [200], "dtype": "<i8"},
        {"name": "text.present", "shape": [200], "dtype": "|b1"},
    ],
    "created_at": "2026-11-26T23:16:57.810000Z",
}
DATASET: dict[str, Any] = {
    "name": "speech",
    "latest_version": 1,
    "created_at": "2026-11-26T23:17:00.104000Z",
    "deleted_at": None,
}
DATASET_VERSION: dict[str, Any] = {
    "dataset": "speech",
    "version": 1,
    "state": "ready",
    "rows": 200,
    "schema": {
        "kind": "static",
        "modalities": [
            {
                "name": "audio",
                "shape": [3],
                "dtype": "float32",
                "categories": None,
                "category_names": None,
                "units": None,
                "likelihood": "gaussian",
            },
            {
                "name": "text",
                "shape": [],
                "dtype": "int64",
                "categories": 2,
                "category_names": None,
                "units": None,
                "likelihood": "categorical",
            },
        ],
        "step_seconds": None,
    },
    "statistics": {
        "rows": 200,
        "empty_rows": 0,
        "modalities": {
            "audio": {
                "rows": 200,
                "present": 200,
                "absent": 0,
                "nan": 0,
                "mean": 0.0133,
                "standard_deviation": 0.9855,
                "minimum": -3.4358,
                "maximum": 3.8802,
            },
            "text": {"rows": 158, "present": 158, "absent": 42, "nan": 0, "counts": [78, 80]},
        },
        "together": {"audio": {"audio": 200, "text": 158}, "text": {"audio": 158, "text": 158}},
    },
    "warnings": [
        {
            "code": "inferred_categories",
            "detail": "column 'text' holds 2 different whole numbers (0, 1), which were read as categories; declare "
            "dtype float32 where they are numbers, or categories where there are more",
            "column": "text",
        }
    ],
    "sha256": "0229e952c778533d046ba6a14ba1bdaafafb95ee93ec32de97eb0a19457001ba",
    "size_bytes": 5312,
    "source": {"upload": "upl_01KA3M5Q7R9T2V4X6Z8B0D1F3H"},
    "declared": {},
    "errors": [],
    "detail": None,
    "waiting_reason": None,
    "progress": 1.0,
    "created_at": "2026-11-26T23:17:00.104000Z",
    "deleted_at": None,
}
PREVIEW: dict[str, Any] = {
    "rows": [
        {"row": 0, "id": None, "label": None, "split": None, "values": {"audio": [0.13, -0.13, 0.64], "text": 1}},
        {"row": 1, "id": None, "label": None, "split": None, "values": {"audio": [0.1, -0.54, 0.36], "text": None}},
    ],
    "total_rows": 200,
}
