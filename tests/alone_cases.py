"""Cases of ``benchmarks.measure.alone``, which imports this file in a process of its own."""

import os
import time

import torch

MEGABYTE = 2**20


def fill(megabytes, before):
    """The peak before the call is larger, what is held before it does not count."""
    torch.ones((before + 64) * MEGABYTE, dtype=torch.uint8)
    held = torch.ones(before * MEGABYTE, dtype=torch.uint8)

    def case():
        print("no answer")
        filled = torch.ones(megabytes * MEGABYTE, dtype=torch.uint8)
        return {"sum": int(filled[-1] + held[-1]), "threads": torch.get_num_threads()}

    return case


def fail(message):
    raise ValueError(message)


def fail_as_second():
    if os.environ["RANK"] == "1":
        raise ValueError("no such thing")
    time.sleep(100)
