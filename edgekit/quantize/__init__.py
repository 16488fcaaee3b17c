"""Quantization at the hub: observe statistics once, place per target, solve parameters, apply to the graph."""
