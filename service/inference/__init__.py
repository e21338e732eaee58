"""Answers from trained models, with whatever modalities the caller has."""
