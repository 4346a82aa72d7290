"""What a trained policy is for: exported as ONNX, and served over HTTP."""
