"""How the widths of imputed intervals and draws were fitted on held-out rows."""

CALIBRATIONS = ("none", "pooled", "pattern")
"""By their numbers: not at all, for all patterns of what is missing together, for each pattern of its own."""
