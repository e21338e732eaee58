"""The Open Inference Protocol under /v2, for standard clients such as tritonclient."""
