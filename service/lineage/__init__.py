"""Lineage: the data that runs and models were made of, and the deletion of datasets, which it may forbid."""
