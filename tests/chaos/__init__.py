"""Fault injection into a busy stack of real processes: `python -m tests.chaos`, or `make chaos`."""
