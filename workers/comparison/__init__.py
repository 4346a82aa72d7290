"""Studies: many runs that differ in one thing, and what can be said of the difference."""
