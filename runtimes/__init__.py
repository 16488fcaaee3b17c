"""Adapters to the vendors' engines, one file per engine."""
