"""One run on several machines: the same loop, its workers on the nodes of a Ray cluster."""
