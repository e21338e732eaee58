"""Real data, with the protocols by which others are measured on them. Nothing of them is part of the repository."""
