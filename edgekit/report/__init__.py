"""Measured and planned results as text, markdown or JSON, one renderer each."""
