"""ONNX's own node tests through every road of the house: what each writer can do, measured op by op."""
