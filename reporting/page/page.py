"""The whole page: one file that shows a store to a stranger, without a network."""

import base64
import hashlib
from datetime import datetime, timezone
from pathlib import Path

from reporting.page.charts import Charts
from reporting.page.html import Html, join, tag
from reporting.page.material import Material, read_material
from reporting.page.pictures import NoPictures, PicturesOf
from reporting.page.sections import (
    anchor,
    how_to_read,
    pair_section,
    property_against_benefit,
    summary,
    trade_offs,
)
from store.layout import Layout
from store.runs import Run

HERE = Path(__file__).parent


def page(
    layout: Layout,
    run_id: str | None = None,
    *,
    pictures_of: PicturesOf | None = None,
    benefit: str = "accuracy",
) -> str:
    """HTML of a store, or of one run of it beside its baseline.

    The page loads nothing: style, script and pictures are inside, and its own policy forbids the
    browser to fetch or run anything else.

    Args:
        layout: The store.
        run_id: The one run to show; None for a summary of all, then each compressed run.
        pictures_of: Gives the datasets of a run; None shows no pictures and numbers for classes.
        benefit: Measured name on the vertical axis of the trade-off.

    Raises:
        LookupError: The store is empty, or there is no such run.
    """
    found = read_material(layout, run_id, benefit=benefit)
    return page_of(found, pictures_of or _no_pictures, benefit=benefit, is_whole=run_id is None)


def page_of(found: Material, pictures_of: PicturesOf, *, benefit: str, is_whole: bool) -> str:
    """HTML of what was read; `is_whole` shows the summary over all runs first."""
    charts = Charts()
    body = [header(found)]
    body += [summary(found)] if is_whole else []
    body += [trade_offs(found, charts, benefit)]
    body += [pair_section(pair, charts, pictures_of(pair.run)) for pair in found.pairs]
    body += [property_against_benefit(found, charts), how_to_read()]
    return document(_title(found), join(body))


def header(found: Material) -> Html:
    """What the page is about, and where things are."""
    targets = [
        ("summary", "All compressed models"),
        ("trade-off", "What does a saving cost?"),
        *((anchor(pair.run.run_id), pair.run.run_id) for pair in found.pairs),
        ("association", "Which property goes with which benefit?"),
        ("reading", "How to read this page"),
    ]
    if len(found.pairs) == 1:
        targets = [target for target in targets if target[0] != "summary"]
    links = [tag("li", tag("a", title, href=f"#{name}")) for name, title in targets]
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return join(
        [
            tag("h1", _title(found)),
            tag(
                "p",
                "Compression makes a neural network smaller or faster. This page shows what else "
                "it changed: how often the model is right, how sure it is, how it stands up to "
                "disturbed images, and whom it treats worse than before.",
            ),
            tag("p", f"Written {made} by Interplay.", class_="quiet"),
            tag("nav", tag("ul", *links), aria_label="Contents"),
        ]
    )


def document(title: str, body: Html) -> str:
    """A page around its body; only the two scripts written here may run."""
    from plotly.offline import get_plotlyjs

    style = (HERE / "page.css").read_text(encoding="utf-8")
    scripts = [get_plotlyjs(), (HERE / "page.js").read_text(encoding="utf-8")]
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_allowed, scripts))}; "
        "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
{tag("title", title)}
<style>{style}</style>
<noscript><style>.plot {{ display: none; }}</style></noscript>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<noscript><p class="missing">Without JavaScript the figures are not drawn; the numbers of each are
in the table beneath it.</p></noscript>
<main id="main">
{body}
</main>
{"".join(f"<script>{script}</script>" for script in scripts)}
</body>
</html>
"""


def _allowed(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _title(found: Material) -> str:
    if len(found.pairs) == 1:
        return f"What compression did: {found.pairs[0].run.run_id}"
    return f"What compression did to {len(found.pairs)} models"


def _no_pictures(_: Run) -> NoPictures:
    return NoPictures()
