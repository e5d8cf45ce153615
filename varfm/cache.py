"""The folder in which varfm keeps what it can make or fetch again: indexes and weights."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Give the cache folder, `VARFM_CACHE` or the user's own; it need not exist."""
    chosen = os.environ.get("VARFM_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("varfm"))
