"""Other servers of models, to measure ours against: their programs, their pinned packages, and how all are started."""
