"""Models edgekit knows: one file per family, each with its card."""
