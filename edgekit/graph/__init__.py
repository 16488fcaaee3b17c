"""Helpers over onnx-ir, the hub's graph: load, clean, shapes, walk, replace, cost."""
