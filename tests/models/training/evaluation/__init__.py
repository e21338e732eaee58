"""Tests of the parts of an evaluation."""
