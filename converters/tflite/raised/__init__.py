"""The op table read backwards: for each operation of TFLite what it is in the hub."""
