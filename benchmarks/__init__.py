"""Side-by-side measurements that anyone can run: `python -m benchmarks` (see README.md here)."""
