"""The REST service: HTTP in front, SQL as the truth, messages to the workers."""
