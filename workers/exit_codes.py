"""The exit codes a user can rely on; a signal's is 128 plus its number."""

FINISHED = 0
USAGE = 2  # or configuration
WORKER = 3  # or its environment
CHECKPOINT = 4
NUMERICS = 5
DISK = 74
INTERRUPTED = 130
