"""The op table: for each operation of ONNX how it is lowered, and for each of TFLite how it is raised."""
