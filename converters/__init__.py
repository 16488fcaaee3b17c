"""Roads to and from the formats, one file or folder per format."""
