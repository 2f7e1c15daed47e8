"""What is written as files for others: the page, and figures for papers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.files import write_atomically
from reporting.page.material import read_material
from reporting.page.page import page_of
from reporting.page.pictures import PicturesOf
from reporting.papers import write_figures
from store.layout import Layout


def is_asked(config: Mapping[str, Any]) -> bool:
    """Whether a report is to be a page or figures, not a table.

    Raises:
        ConfigError: `html` is neither true nor false.
    """
    if not isinstance(config["html"], bool):
        raise ConfigError([f"html is true or false, got {config['html']!r}"])
    return config["html"] or config["figures"] is not None


def publish(layout: Layout, config: Mapping[str, Any], pictures_of: PicturesOf) -> list[Path]:
    """Write the page where `html` is true, and figures where `figures` names a folder.

    Args:
        layout: The store.
        config: `run`, `output`, `html`, `figures`, `figure_formats` and `benefit`.
        pictures_of: Gives the datasets of a run.

    Returns:
        The files that were written.

    Raises:
        LookupError: The store is empty, or has no such run or nothing to draw.
    """
    benefit = config["benefit"]
    found = read_material(layout, config["run"], benefit=benefit)
    written = []
    if config["html"]:
        path = Path(config["output"] or layout.root / "report.html")
        is_whole = config["run"] is None
        text = page_of(found, pictures_of, benefit=benefit, is_whole=is_whole)
        write_atomically(path, text)
        written.append(path)
    if config["figures"] is not None:
        written += write_figures(found, Path(config["figures"]), config["figure_formats"])
    return written
