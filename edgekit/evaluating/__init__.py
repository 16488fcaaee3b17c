"""What the verb `evaluate` is made of: data and their metric, the asking, the source, and what is compared in pairs."""
