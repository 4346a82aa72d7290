"""Shared by all tests."""

import torch

torch.set_num_threads(1)  # as in every process of the program; more threads only get in each other's way
