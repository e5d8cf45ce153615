"""What all tests share. Its place lets tests in subfolders import the modules that stand beside it."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    """Give every device class that is there; tests with it run on each."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device is there")
    return str(request.param)
