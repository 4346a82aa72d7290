"""A model in onnxruntime, the one way for its check and for serving it."""

import onnxruntime


def open_session(content: bytes) -> onnxruntime.InferenceSession:
    """A session on the bytes themselves: no path, so nothing beside the file can be reached.

    Raises: exceptions of onnxruntime's, which have no common type of their own.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it would remember one plan for each size of batch that ever came
    options.log_severity_level = 4  # what is wrong with a model is told in our own line
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
