"""What processes share: flat parameters, the shared optimizer, the board and the store."""
