"""The Open Inference Protocol under /v2: what stock clients such as tritonclient speak."""
