"""Where downloads and converted copies are kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder of the environment variable INKPROOF_CACHE, else the user's cache folder for inkproof."""
    if named := os.environ.get("INKPROOF_CACHE"):
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("inkproof")
