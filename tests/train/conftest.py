"""One thread a process: on cores that other tests use, torch's threads wait longer than they compute."""

import os

import torch

os.environ["OMP_NUM_THREADS"] = "1"  # for programs that tests start, which must compute the same bits
torch.set_num_threads(1)
