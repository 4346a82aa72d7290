"""Programs that benchmarks start, each measuring itself from inside."""
