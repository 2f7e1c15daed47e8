"""SQL over a store: its files are read once into tables of an in-memory database."""

import json
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import duckdb
import pyarrow as pa

from store.layout import Layout
from store.runs import Run, read_run, run_ids
from store.sealed import read_folder

RUNS = pa.schema(
    [
        ("run_id", pa.string()),
        ("model", pa.string()),
        ("compressor", pa.string()),
        ("baseline", pa.string()),
        ("fingerprint", pa.string()),
        ("seed", pa.int64()),
        ("config", pa.string()),
        ("lineage", pa.string()),
        ("provenance", pa.string()),
        ("attempts", pa.int64()),
    ]
)
CELLS = pa.schema(
    [
        ("cell", pa.int64()),
        ("run_id", pa.string()),
        ("measurement", pa.string()),
        ("key", pa.string()),
        ("status", pa.string()),
        ("kind", pa.string()),
        ("version", pa.int64()),
        ("seconds", pa.float64()),
        ("reason", pa.string()),
        ("error", pa.string()),
    ]
)
VALUES = pa.schema(
    [
        ("cell", pa.int64()),
        ("place", pa.int64()),
        ("name", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n", pa.int64()),
        ("unit", pa.string()),
        ("better", pa.string()),
        ("view", pa.string()),
    ]
)

TABLES = """
CREATE TABLE runs AS SELECT * FROM files_runs;
CREATE TABLE cells AS SELECT * EXCLUDE (cell) FROM files_cells;
CREATE TABLE results AS
SELECT
    c.run_id, r.model, r.compressor, r.baseline, coalesce(v.name, c.measurement) AS name,
    v.value, v.low, v.high, v.n, v.unit, v.better, c.version, c.status, c.measurement, c.kind,
    v.view, c.reason
FROM files_cells AS c
LEFT JOIN files_values AS v USING (cell)
LEFT JOIN files_runs AS r USING (run_id)
ORDER BY c.cell, v.place;
"""


class _Found:
    """What the files say, as columns."""

    def __init__(self) -> None:
        self._runs: list[dict[str, Any]] = []
        self._cells: list[dict[str, Any]] = []
        self._owners: list[int] = []  # cell of each value
        self._names: list[str] = []
        self._values: list[dict[str, Any]] = []

    def add_run(self, run: Run) -> None:
        """Take a row of `runs`."""
        texts = {key: json.dumps(getattr(run, key)) for key in ("config", "lineage", "provenance")}
        self._runs.append({**vars(run), **texts, "attempts": len(run.attempts)})

    def add_cell(self, run_id: str, stored: dict[str, Any]) -> None:
        """Take a row of `cells` and its values."""
        values = stored.pop("values")
        self._owners.extend([len(self._cells)] * len(values))
        self._names.extend(values)
        self._values.extend(values.values())
        self._cells.append({"kind": "", **stored, "run_id": run_id})

    def tables(self) -> dict[str, pa.Table]:
        """The three kinds of rows, numbered in the order they were read."""
        values = {
            "cell": self._owners,
            "name": self._names,
            "place": range(len(self._names)),
        }
        return {
            "files_runs": _table(RUNS, self._runs),
            "files_cells": _table(CELLS, self._cells, cell=range(len(self._cells))),
            "files_values": _table(VALUES, self._values, **values),
        }


def _table(schema: pa.Schema, rows: Sequence[dict[str, Any]], **columns: Any) -> pa.Table:
    """Rows as a table; `columns` are those that are not in the rows."""
    arrays = []
    for wanted in schema:
        given = columns.get(wanted.name)
        column = map(itemgetter(wanted.name), rows) if given is None else given
        arrays.append(pa.array(column, wanted.type, size=len(rows)))
    return pa.Table.from_arrays(arrays, schema=schema)


def connect(layout: Layout) -> duckdb.DuckDBPyConnection:
    """Read the store's files and open a database over what they hold now.

    Damaged files are named in a warning, moved aside, and absent from the tables.

    Args:
        layout: The store; it may be empty.

    Returns:
        A connection with the tables

        - `runs`: one row a run; `config`, `lineage` and `provenance` as JSON, `attempts` their
          number;
        - `cells`: one row a run and measurement;
        - `results`: one row a value. A cell that failed or is not applicable is one row too: its
          name is the measurement's, its value NULL, and `reason` says why.
    """
    found = _Found()
    for run_id in run_ids(layout):
        run = read_run(layout, run_id)
        if run is not None:
            found.add_run(run)
        for _, stored in read_folder(layout.cells(run_id)):
            found.add_cell(run_id, stored)
    return _database(found.tables())


def _database(tables: dict[str, pa.Table]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    for name, table in tables.items():
        connection.register(name, table)
    connection.execute(TABLES)
    for name in tables:
        connection.unregister(name)
    return connection
