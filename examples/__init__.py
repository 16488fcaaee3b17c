"""Examples; each runs as a script."""
