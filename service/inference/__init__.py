"""Inference: answers from trained models for any subset of the modalities."""
