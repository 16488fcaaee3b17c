"""The pieces of `edgekit.optimize`: what there is to try, where trials run, what is kept of them, and who wins."""
