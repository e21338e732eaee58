"""The registry: models, their versions and aliases, and the lineage of versions."""
