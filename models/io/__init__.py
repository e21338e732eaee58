"""Checkpoints and bundles: writes models to files and reads them back, without pickle."""
