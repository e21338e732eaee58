"""Measurements, each a command that prints a table and writes JSON: `make bench-NAME` runs benchmarks/NAME.py."""
