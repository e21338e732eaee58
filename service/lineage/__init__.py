"""What runs and models were made of, and what may therefore not be deleted."""
