"""Checkpoints and bundles: how models are written to files and read back, without pickle."""
