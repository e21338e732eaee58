"""The life of everything a worker does."""
