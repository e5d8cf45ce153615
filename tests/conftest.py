"""What all tests share. Its place lets tests in subfolders import the modules that stand beside it."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

# The machine's load must not fail a test.
settings.register_profile("varfm", deadline=None, max_examples=60, print_blob=True)
settings.load_profile("varfm")

# A shell ignores SIGINT in what it starts in the background, and its children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    """Give every device class that is there; tests with it run on each."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device is there")
    return str(request.param)
