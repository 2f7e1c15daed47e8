"""The folder of everything that may be deleted at any time."""

import os
import tempfile
from pathlib import Path


def cache_dir() -> Path:
    """`$INTERPLAY_CACHE`, else `$XDG_CACHE_HOME/interplay`, else `~/.cache/interplay`.

    A container user without a home gets a folder of the temporary directory.
    """
    if own := os.environ.get("INTERPLAY_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "interplay"
    try:
        return Path.home() / ".cache" / "interplay"
    except RuntimeError:  # no $HOME and no entry in the user database
        return Path(tempfile.gettempdir()) / f"interplay-{os.getuid()}"
