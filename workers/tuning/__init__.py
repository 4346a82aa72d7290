"""`tune`: a search for the options with which an environment is learned, and its confirmation."""
