"""Training as a library: a dataset and a configuration become events and, at the end, a model."""
