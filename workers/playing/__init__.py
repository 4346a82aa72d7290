"""A trained policy: evaluated, watched, filmed."""
