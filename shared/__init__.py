"""What processes share: flat parameters, the shared optimizer, the scoreboard and the store."""
