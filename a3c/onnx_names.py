"""The names by which an exported policy (ONNX) and its consumers know each other."""

OBSERVATIONS = "observations"  # input, float32 [B, O]; any B
PROBABILITIES = "probabilities"  # output, float32 [B, A]
ACTIONS = "actions"  # output, int64 [B]: the most probable ones, counted as the environment counts them
VALUES = "values"  # output, float32 [B], in units of return; only where the critic was exported
PREFIX = "a3c."  # of all keys of the metadata
FORMAT = "1"  # a3c.format: what these names and the metadata mean
