"""Jobs: their state machine, events, metrics, and the workers that run them."""
