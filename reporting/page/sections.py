"""Sections of the page: pure functions, what was read -> HTML."""

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from core.estimate import Estimate
from core.names import slug
from reporting.compare import Row
from reporting.disagreements import Disagreement, Disagreements
from reporting.numbers import scale_of
from reporting.page.charts import Charts
from reporting.page.html import Html, definitions, details, join, table, tag
from reporting.page.material import Material, Pair, parts_of
from reporting.page.pictures import Pictures, name_of
from reporting.page.words import AT_A_GLANCE, WORDS, place_of, recipe_of, strength_of
from reporting.screen import INTERVALS, RATIO, VERDICTS
from store.runs import Run

KINDS = {
    "broken": "The baseline is right, the compressed model is wrong",
    "mended": "The baseline is wrong, the compressed model is right",
    "changed": "Both are wrong, each in its own way",
}

SHOWN = 12
"""Samples of a kind in the gallery."""

SMALL_PNG = 2048
"""Bytes up to which a picture is taken for one of few pixels, to be enlarged without blur."""

VERDICT_SIGNS = {"better": "▲ better", "worse": "▼ worse"}

ROW_COLUMNS = ["measured", "baseline", "compressed", "change", "95 % interval", "n", "verdict"]
ROW_NUMBERS = ["baseline", "compressed", "change", "95 % interval", "n"]


def missing(what: str, command: str, reason: str = "") -> Html:
    """One sentence for a part without data: which command would fill it."""
    why = f" ({reason})" if reason else ""
    text = f"{what}{why}. To fill this part: "
    return tag("p", text, tag("code", command), class_="missing")


def anchor(run_id: str) -> str:
    """Name of a run's section in the page."""
    return f"run-{slug(run_id)}"


def how_to_read() -> Html:
    """What intervals, verdicts and the words of the page mean."""
    return join(
        [
            tag("h2", "How to read this page", id="reading"),
            definitions(
                [
                    ("baseline", "the model before compression"),
                    ("compressed", "the same model after a recipe made it smaller or faster"),
                    ("recipe", "what was done, to which layers, and how much"),
                    ("95 % interval", INTERVALS),
                    ("verdict", VERDICTS),
                    ("ratio", RATIO),
                    (
                        "commands",
                        "fill the store they are run on: add the results_dir= of this one",
                    ),
                ]
            ),
        ]
    )


def summary(found: Material) -> Html:
    """A table of all compressed runs, one row each."""
    pairs = [pair for pair in found.pairs if pair.found.baseline]
    heading = tag("h2", "All compressed models", id="summary")
    if not pairs:
        command = "python evaluate.py compressor=l1_filter compressor.sparsity=0.5 finetune=short"
        return join([heading, missing("The store holds no compressed model", command)])
    accuracies = list(
        dict.fromkeys(
            row.name
            for pair in pairs
            for row in pair.found.rows
            if parts_of(row.name).measured == "accuracy"
        )
    )
    titles = [parts_of(name).datamodule for name in accuracies]
    columns = ["run", "recipe"]
    columns += [part for title in titles for part in (f"accuracy, {title}", "change, points")]
    costs = ["parameters", "MACs", "bytes", "latency"]
    columns += [*costs, "verdicts"]
    return join(
        [
            heading,
            tag(
                "p",
                "Each row is a compressed model beside its own baseline. Costs are compressed over "
                "baseline, so 0.50x is half. Verdicts count all numbers that can have one; each "
                "is judged by itself.",
            ),
            table(
                columns,
                [_summary_row(pair, accuracies) for pair in pairs],
                caption="Compressed models, one row a run",
                numeric=[column for column in columns[2:] if column != "verdicts"],
            ),
        ]
    )


def _summary_row(pair: Pair, accuracies: Sequence[str]) -> list[object]:
    rows = {row.name: row for row in pair.found.rows}
    run = pair.run
    cells: list[object] = [
        tag("a", run.run_id, href=f"#{anchor(run.run_id)}"),
        join([run.compressor, " ", tag("small", strength_of(run), class_="quiet")]),
    ]
    for name in accuracies:
        row = rows.get(name)
        if row is None:
            cells += ["", ""]
        else:
            _, now, change, interval, *_, verdict = _row_texts(row)
            sign = verdict if row.verdict else ""
            cells += [now, join([f"{change} {interval} ", sign])]
    for cost in ("params", "macs", "weight_bytes", "latency_p50_ms"):
        row = rows.get(f"model_test_{cost}")
        cells.append("" if row is None or row.ratio is None else f"{row.ratio:.2f}x")
    counts = Counter(row.verdict for row in pair.found.rows if row.verdict)
    cells.append(", ".join(f"{n} {verdict}" for verdict, n in counts.most_common()))
    return cells


def trade_offs(found: Material, charts: Charts, benefit: str) -> Html:
    """Costs against a benefit, over all models of the store."""
    heading = tag("h2", "What does a saving cost?", id="trade-off")
    if not found.trade_offs:
        command = "python evaluate.py -m compressor=level compressor.sparsity=0.5,0.8,0.9"
        return join(
            [
                heading,
                missing(f"No two models have {benefit!r} and a cost on the same data", command),
            ]
        )
    drawn = [charts.trade_off(one) for one in found.trade_offs]
    return join([heading, tag("div", *drawn, class_="charts")])


def property_against_benefit(found: Material, charts: Charts) -> Html:
    """Which property of a model goes with which benefit, over the whole store."""
    parts: list[Html] = [tag("h2", "Which property goes with which benefit?", id="association")]
    titles = {"values": "Over all models", "changes": "Over what compression changed"}
    command = "python evaluate.py -m model.checkpoint=FILE,FILE,... compressor=level"
    for one in found.associations:
        parts.append(tag("h3", titles[one.what]))
        if one.pairs:
            parts.append(charts.matrix(one.pairs))
        else:
            parts.append(missing("There is no table yet", command, one.missing))
        parts += [tag("p", note, class_="quiet") for note in one.notes]
    return join(parts)


def pair_section(pair: Pair, charts: Charts, pictures: Pictures) -> Html:
    """Everything about one run."""
    run = pair.run
    inside = [
        tag("h2", f"{run.model}, {run.compressor}", id=anchor(run.run_id)),
        what_was_compared(pair),
        comparison_tables(pair),
    ]
    if pair.found.baseline is not None:
        inside += [
            *_reliability(pair, charts),
            *_corruption(pair, charts),
            *_changes(pair, charts, pictures),
            *_galleries(pair, pictures),
        ]
    return tag("section", join(inside), class_="pair")


def what_was_compared(pair: Pair) -> Html:
    """Models, recipe, data, versions and dates in plain words."""
    run, baseline = pair.run, pair.found.baseline
    if baseline is None:
        told = f"The model {run.model} as it is; nothing was compressed in this run."
    else:
        told = (
            f"The model {run.model} was compressed by the recipe {run.compressor}. The baseline "
            "and the compressed model then answered the same questions about the same images."
        )
    given = [("compressed run" if baseline else "run", run.run_id)]
    if baseline is not None:
        given += [("baseline run", baseline), ("recipe", recipe_of(run))]
    return join([tag("p", told), definitions([*given, *_circumstances(pair)])])


def _circumstances(pair: Pair) -> Iterator[tuple[str, str]]:
    run = pair.run
    datasets = ", ".join(map(str, run.config.get("datasets") or [])) or "none"
    yield "data", "; ".join(_data(pair)) or datasets
    subset = run.config.get("limit_samples")
    if subset:
        yield "part of the data", f"a fixed random subset of {subset:,} images of each split"
    yield "seed", str(run.seed)
    yield "dates", _dates(run) or "not stored"
    yield "machine", _machine(run.provenance) or "not stored"
    yield "versions", _versions(run.provenance) or "not stored"


def _data(pair: Pair) -> Iterator[str]:
    for seen in pair.seen:
        classes = f", {seen.classes:,} classes" if seen.classes else ""
        yield f"{seen.datamodule}, {seen.split} split: {seen.samples:,} images{classes}"


def _dates(run: Run) -> str:
    times = [str(attempt[end]) for attempt in run.attempts for end in ("started", "ended")
             if attempt.get(end)]  # fmt: skip
    if not times:
        return ""
    first, last = (moment.replace("T", " ") for moment in (min(times), max(times)))
    return first if first == last else f"{first} to {last}"


def _machine(provenance: dict[str, Any]) -> str:
    gpus = provenance.get("gpus") or []
    parts = [provenance.get("cpu"), *gpus, provenance.get("platform")]
    return "; ".join(str(part) for part in parts if part)


def _versions(provenance: dict[str, Any]) -> str:
    versions = {"python": provenance.get("python"), **(provenance.get("versions") or {})}
    told = [f"{name} {version}" for name, version in versions.items() if version]
    commit = provenance.get("git_hash")
    changed = " with changes" if provenance.get("git_dirty") else ""
    return ", ".join([*told, *([f"commit {str(commit)[:12]}{changed}"] if commit else [])])


def comparison_tables(pair: Pair) -> Html:
    """The headline numbers, then all of them."""
    found = pair.found
    parts: list[Html] = []
    if found.baseline is not None:
        glance = [row for row in found.rows if parts_of(row.name).measured in AT_A_GLANCE]
        parts += [tag("h3", "At a glance"), _rows_table(glance, "The headline numbers")]
        parts.append(_printed("All numbers of both models", _rows_table(found.rows, "All numbers")))
        title = "The two models beside each other"
    else:
        title = "All numbers"
    if found.paired:
        parts += [tag("h3", title), _values_table(found.paired, title)]
    if found.notes:
        notes = tag("ul", *(tag("li", note) for note in found.notes))
        parts.append(_printed(f"Why numbers are missing ({len(found.notes)})", notes))
    if not found.rows and not found.paired:
        parts.append(missing("Nothing was measured", "python evaluate.py"))
    return join(parts)


def _printed(summary: str, inside: Html) -> Html:
    return Html(details(summary, inside).replace("<details>", '<details class="printed">', 1))


def _rows_table(rows: Sequence[Row], caption: str) -> Html:
    cells: list[list[object]] = []
    for place, group in groupby(sorted(rows, key=_place_order), key=lambda row: place_of(row.name)):
        cells.append([place])
        cells += [_row_texts(row, named=True) for row in group]
    return table(ROW_COLUMNS, cells, caption=caption, numeric=ROW_NUMBERS)


def _place_order(row: Row) -> str:
    """Datasets by name, the model itself and what has no number behind them."""
    key = parts_of(row.name)
    return "~" if key.datamodule == "model" else f"{key.datamodule or '~~'} {key.split}"


def _row_texts(row: Row, *, named: bool = False) -> list[object]:
    """Cells of a row: name, baseline, compressed, change, interval, n, verdict.

    Without `named` the baseline is left out.
    """
    scale = scale_of(row.unit, row.values)
    unit = f" {scale.unit}" if scale.unit else ""

    def shown(side: Estimate | str) -> str:
        return f"{scale.show(side)}{unit}" if isinstance(side, Estimate) else side

    change, interval = "", ""
    if row.ratio is not None:
        change = f"{row.ratio:.2f}x"
    elif row.change is not None:
        change = f"{scale.show_change(row.change)} {scale.step}".rstrip()
    paired = row.difference
    if paired is not None and paired.low is not None and paired.high is not None:
        interval = scale.show_interval(paired.low, paired.high, change=True)
    n = "" if row.n is None else f"{row.n:,}"
    sides = [shown(row.baseline), shown(row.compressed)]
    rest: list[object] = [change, interval, n, _verdict(row.verdict)]
    return [_measured(row.name), *sides, *rest] if named else [row.name, sides[1], *rest]


def _measured(name: str) -> Html:
    key = parts_of(name)
    words = WORDS.get(key.measured)
    told = tag("small", words) if words else ""
    return join([tag("span", key.measured.replace("_", " "), title=name), told])


def _verdict(verdict: str) -> Html:
    sign = VERDICT_SIGNS.get(verdict, verdict)
    kind = verdict if verdict in VERDICT_SIGNS else "other"
    return tag("span", sign, class_=kind)


def _values_table(rows: Sequence[Row], caption: str) -> Html:
    columns = ["measured", "value", "95 % interval", "n", "unit"]
    cells: list[list[object]] = []
    for place, group in groupby(sorted(rows, key=_place_order), key=lambda row: place_of(row.name)):
        cells.append([place])
        cells += [_value_texts(row) for row in group]
    return table(columns, cells, caption=caption, numeric=columns[1:4])


def _value_texts(row: Row) -> list[object]:
    value = row.values[-1]
    scale = scale_of(value.unit, [value])
    interval = ""
    if value.low is not None and value.high is not None:
        interval = scale.show_interval(value.low, value.high)
    n = "" if value.n is None else f"{value.n:,}"
    return [_measured(row.name), scale.show(value), interval, n, scale.unit]


def _reliability(pair: Pair, charts: Charts) -> Iterator[Html]:
    yield tag("h3", "Does the confidence mean what it says?")
    if pair.reliability:
        yield tag("div", *map(charts.reliability, pair.reliability), class_="charts")
    else:
        yield missing("The store holds no records of both models", again(pair.run))


def _corruption(pair: Pair, charts: Charts) -> Iterator[Html]:
    yield tag("h3", "How do disturbed images change the answers?")
    if pair.corruptions:
        yield from map(charts.corruption, pair.corruptions)
    else:
        command = f"{again(pair.run)} measurement_group=robustness"
        yield missing("Neither model has looked at disturbed images yet", command)


def _changes(pair: Pair, charts: Charts, pictures: Pictures) -> Iterator[Html]:
    yield tag("h3", "Whom does compression help or harm?")
    if not any(not one.column for one in pair.changes):
        command = f"{again(pair.run)} measurements=[accuracy,per_class_accuracy,delta]"
        yield missing("No change was measured class by class", command)
    drawn = [
        charts.changes(one, partial(name_of, pictures.class_names(one.datamodule)))
        for one in pair.changes
    ]
    if drawn:
        yield tag("div", *drawn, class_="charts")
    if not any(one.column for one in pair.changes):
        command = (
            f"{again(pair.run)} measurement_group=fairness "
            "'measurement_library.group_fairness.group_files={DATASET: FILE.csv}' "
            "'measurement_library.disparity.group_files={DATASET: FILE.csv}'"
        )
        yield missing("No change was measured group by group", command)


def _galleries(pair: Pair, pictures: Pictures) -> Iterator[Html]:
    yield tag("h3", "Which images are answered differently?")
    if not pair.disagreements:
        yield missing("The store holds no records of both models", again(pair.run))
    for found in pair.disagreements:
        yield gallery(found, pictures)


def gallery(found: Disagreements, pictures: Pictures) -> Html:
    """Samples on which the two models differ: picture, label, both answers."""
    where = f"{found.datamodule}, {found.split} split"
    if not found.rows:
        return tag("p", f"{where}: both models answer every image alike.")
    absent = pictures.absence(found.datamodule, found.split, found.dataset)
    parts = [tag("p", f"{where}: {found.total:,} images are answered differently.")]
    if absent:
        parts.append(tag("p", f"The pictures are not on this machine: {absent}.", class_="missing"))
    for kind, title in KINDS.items():
        rows = [row for row in found.rows if row.kind == kind]
        if rows:
            shown = f", {SHOWN} shown, the surest first" if len(rows) > SHOWN else ""
            cards = [_card(found, row, pictures, bool(absent)) for row in rows[:SHOWN]]
            parts.append(tag("h4", f"{title} ({len(rows):,}{shown})"))
            parts.append(tag("ul", *cards, class_="gallery"))
    return join(parts)


def _card(found: Disagreements, row: Disagreement, pictures: Pictures, is_absent: bool) -> Html:
    names = pictures.class_names(found.datamodule)
    label, before, now = (name_of(names, i) for i in (row.label, row.baseline, row.compressed))
    png = None
    if not is_absent:
        png = pictures.thumbnail(found.datamodule, found.split, row.sample_id)
    picture: object = "" if is_absent else tag("p", "(cannot be decoded)")
    if png is not None:
        text = f"sample {row.sample_id}, labelled {label}, {before} before and {now} compressed"
        size = "small" if len(png) <= SMALL_PNG else None
        data = base64.b64encode(png).decode()
        picture = Html(
            tag("img", src=f"data:image/png;base64,{data}", alt=text, class_=size).removesuffix(
                "</img>"
            )
        )
    return tag(
        "li",
        picture,
        tag(
            "p",
            "label: ",
            tag("strong", label),
            tag("span", f" (sample {row.sample_id})", class_="quiet"),
        ),
        tag("p", f"baseline: {before}, {row.baseline_confidence:.1%} sure"),
        tag("p", f"compressed: {now}, {row.compressed_confidence:.1%} sure"),
    )


def again(run: Run) -> str:
    """Command that evaluates a model and its recipe again, as far as names say it."""
    steps = run.lineage.get("operation", {}).get("parameters", {})
    words = [f"model={run.model}"]
    for slot, step in steps.items():
        if step and step.get("name") not in (None, "none"):
            words.append(f"{slot}={step['name']}")
    strength = steps.get("compressor", {}).get("sparsity")
    if strength is not None:
        words.append(f"compressor.sparsity={strength}")
    return " ".join(["python evaluate.py", *words])
