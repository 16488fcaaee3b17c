"""What `profile` is made of: the records, the statistics, what runs in the children, and the order of the rounds."""
