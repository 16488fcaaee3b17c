"""The catalogue: real trained models out of pinned packages, each converted to every format."""
