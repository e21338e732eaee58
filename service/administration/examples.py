"""Example bodies of API keys, projects and audit events, for the OpenAPI document."""

from typing import Any

API_KEY: dict[str, Any] = {
    "id": "key_01KA3M4B6D8F0H2K4M6P8R0T2V",
    "name": "dashboard",
    "prefix": "df2c0fad8f8e",
    "scopes": ["read"],
    "created_at": "2026-11-26T23:16:57.670000Z",
    "expires_at": None,
    "last_used_at": "2026-11-27T08:02:00Z",
    "revoked_at": None,
}
NEW_API_KEY: dict[str, Any] = {**API_KEY, "last_used_at": None, "token": "sns_df2c0fad8f8e_…"}
PROJECT: dict[str, Any] = {
    "id": "prj_01KA3M3Z5B7D9F1H3K5M7P9R1T",
    "name": "clinic",
    "operates": False,
    "quotas": {
        "stored_bytes": None,
        "queued_runs": 100,
        "running_runs": None,
        "request_rows": None,
        "requests_per_minute": None,
    },
    "stored_bytes": 305270,
    "created_at": "2026-11-26T23:16:53.980000Z",
    "deleted_at": None,
}
IDENTITY: dict[str, Any] = {
    "api_key": API_KEY,
    "project": {"id": PROJECT["id"], "name": PROJECT["name"], "operates": False},
    "quotas": {**PROJECT["quotas"], "requests_per_minute": 600},
    "use": {"stored_bytes": 305270, "queued_runs": 3, "running_runs": 1},
}
NEW_PROJECT: dict[str, Any] = {**PROJECT, "stored_bytes": 0, "token": "sns_2005bf4ca9a4_…"}
AUDIT_EVENT: dict[str, Any] = {
    "id": 41,
    "action": "create_run",
    "resource": "/v1/runs",
    "made": ["job_01KA3M6D2E3G5J7M9N1Q3S5U7W", "run_01KA3M6D2F4H6K8M0P2R4T6V8X"],
    "key_id": "key_01KA3M4B6D8F0H2K4M6P8R0T2V",
    "request_id": "req_18ebbb8907582756865b389a81fd",
    "client": "127.0.0.1",
    "created_at": "2026-11-26T23:17:58.703000Z",
}
