"""What the service and its workers both use."""
