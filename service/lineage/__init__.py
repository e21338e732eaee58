"""Lineage: the data of runs and models. It also deletes datasets, unless runs or models use them."""
