"""The parts of an evaluation, one file each; `models.training.evaluate` joins them."""
