"""Faults injected for real into a whole stack at work: `python -m tests.chaos`, or `make chaos`."""
