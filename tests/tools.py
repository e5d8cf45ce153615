"""Programs from outside Python that some tests need."""

from __future__ import annotations

import os
import shutil

import pytest


def require_tool(name: str) -> str:
    """Give the path of a program; without it the test is skipped, or fails where VARFM_REQUIRE_TOOLS=1."""
    path = shutil.which(name)
    if path is None:
        message = f"{name} is not installed"
        if os.environ.get("VARFM_REQUIRE_TOOLS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path
