"""Example bodies of runs, for the OpenAPI document."""

from typing import Any

from service.registry import examples as registry

RUN_ID = "run_01KA3M6D2F4H6K8M0P2R4T6V8X"
CONFIG: dict[str, Any] = {**registry.CONFIG, "latent_features": 16}
TRAINING: dict[str, Any] = {
    "epochs": 20,
    "batch_size": 64,
    "optimiser": "adamw",
    "learning_rate": 0.002,
    "learning_rate_schedule": {"schedule": "cosine", "warmup": 0.03, "floor": 0.02},
    "weight_decay": 0.0001,
    "gradient_clip_norm": 1.0,
    "precision": "float32",
    "validation_fraction": 0.1,
    "validation_rows": None,
    "select": "best",
    "select_metric": "validation_loss",
    "early_stopping": None,
    "checkpoint_epochs": None,
    "objective": {"name": "elbo"},
    "beta": {"schedule": "linear", "start": 0.0, "end": 0.1, "ramp": 0.2, "ramp_unit": "training"},
    "free_bits": 0.0,
    "modality_weights": None,
    "modality_dropout": {"strategy": "subsets", "probability": 0.8},
    "burst_deletion": None,
    "deletion_mix": None,
    "weight_average": 0.99,
}
RUN: dict[str, Any] = {
    "id": RUN_ID,
    "state": "running",
    "phase": "training",
    "progress": 0.35,
    "eta_seconds": 6.9,
    "attempt": 1,
    "failures": 0,
    "preemptions": 0,
    "cancel_requested": False,
    "pause_requested": False,
    "queue_position": None,
    "waiting_reason": None,
    "error": None,
    "dataset": {"name": "speech", "version": 1},
    "model": "speech",
    "version": None,
    "preset": "cross-modal",
    "architecture": CONFIG,
    "training": TRAINING,
    "init_from": None,
    "seed": 0,
    "priority": 0,
    "devices": 1,
    "max_attempts": 3,
    "timeout_seconds": None,
    "retry_of": None,
    "tags": ["baseline"],
    "description": None,
    "estimate": {"parameters": 79015, "memory_bytes": 1632640},
    "metrics": {"loss": 4.062, "kl": 2.133, "validation_loss": 4.006, "beta": 0.1, "learning_rate": 0.00145},
    "created_at": "2026-11-26T23:17:53.849000Z",
    "started_at": "2026-11-26T23:17:53.925000Z",
    "finished_at": None,
}
CHECKPOINT: dict[str, Any] = {
    "step": 559,
    "attempt": 1,
    "reason": "interval",
    "sha256": "4e0e1be8019a269cbcfb03377d5b8fc9db499a7836db46c9ea3858c4b36ef50c",
    "size_bytes": 1271844,
    "created_at": "2026-11-26T23:17:58.526000Z",
}
EVENTS: list[Any] = [
    {
        "id": 48,
        "attempt": 0,
        "level": "info",
        "type": "queued",
        "message": "queued for a train worker",
        "data": {},
        "created_at": "2026-11-26T23:17:53.849000Z",
    },
    {
        "id": 51,
        "attempt": 1,
        "level": "error",
        "type": "worker_lost",
        "message": "the worker did not renew its lease in time: queued",
        "data": {"state": "queued"},
        "created_at": "2026-11-26T23:18:59.314000Z",
    },
]
METRICS: dict[str, Any] = {
    "validation_loss": [
        {
            "step": 3,
            "epoch": 1,
            "attempt": 1,
            "value": 4.462,
            "not_finite": None,
            "created_at": "2026-11-26T23:17:55.922000Z",
        },
        {
            "step": 6,
            "epoch": 2,
            "attempt": 1,
            "value": 4.006,
            "not_finite": None,
            "created_at": "2026-11-26T23:17:57.086000Z",
        },
    ]
}
OTHER_ID = "run_01KA3M7T4V6X8Z0B2D4F6H8J0K"
COMPARISON: dict[str, Any] = {
    "runs": [
        {
            "id": run_id,
            "state": "succeeded",
            "model": "speech",
            "version": version,
            "dataset": {"name": "speech", "version": 1},
            "created_at": created_at,
        }
        for run_id, version, created_at in (
            (RUN_ID, 1, "2026-11-26T23:17:53.849000Z"),
            (OTHER_ID, 2, "2026-11-26T23:18:41.207000Z"),
        )
    ],
    "configuration": [{"pointer": "/training/epochs", "values": {RUN_ID: 20, OTHER_ID: 40}}],
    "metrics": [{"name": "validation_loss", "values": {RUN_ID: 4.006, OTHER_ID: 3.871}}],
    "evaluation": [
        {
            "observed": ["audio"],
            "target": "text",
            "metric": "error_rate",
            "runs": {
                run_id: {
                    "values": 20,
                    "error": error,
                    "baseline_error": 0.5,
                    "linear_error": 0.3,
                    "log_likelihood": log_likelihood,
                    "coverage_90": None,
                }
                for run_id, error, log_likelihood in ((RUN_ID, 0.15, -0.411), (OTHER_ID, 0.1, -0.362))
            },
        }
    ],
}
CANCELLED: dict[str, Any] = {
    "cancelled_count": 1,
    "stopping_count": 1,
    "cancelled": [OTHER_ID],
    "stopping": [RUN_ID],
}
