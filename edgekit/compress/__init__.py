"""Compression at the hub: graph in, graph out, one file per method."""
