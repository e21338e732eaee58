"""Modules that both the service and its workers use."""
