"""The demo: train on real data over HTTP, then ask with a modality missing. `make demo` runs it."""
