"""SQL over a store: its files are read once into tables of an in-memory database."""

import json
from typing import Any

import duckdb
import pyarrow as pa

from store.layout import Layout
from store.runs import run_ids, warn_of_copy
from store.sealed import json_files, read_text, read_texts

TEXTS = ("run_id", "model", "compressor", "baseline", "fingerprint")
NESTED = ("config", "lineage", "provenance")
RUN = {
    **dict.fromkeys(TEXTS, "VARCHAR"),
    "seed": "BIGINT",
    **dict.fromkeys(NESTED, "JSON"),
    "attempts": "JSON",
}
VALUE = """STRUCT(
    value DOUBLE, low DOUBLE, high DOUBLE, n BIGINT, unit VARCHAR, better VARCHAR, view VARCHAR
)"""
CELL = {
    **dict.fromkeys(("measurement", "key", "status", "kind"), "VARCHAR"),
    "version": "BIGINT",
    "seconds": "DOUBLE",
    **dict.fromkeys(("reason", "error"), "VARCHAR"),
    "values": f"MAP(VARCHAR, {VALUE})",
}
"""Types of what the files hold; DuckDB reads JSON three times as fast as Python does."""

ROWS_A_THREAD = 2048
"""DuckDB shares batches out among its threads; one large batch keeps one of them busy."""

PARSED = f"""
CREATE TEMP TABLE parsed_runs AS
SELECT folder, starts, unnest(from_json(text, '{json.dumps(RUN)}')) FROM run_files;

CREATE TEMP TABLE parsed_cells AS
SELECT cell, folder AS run_id, unnest(from_json(text, '{json.dumps(CELL)}')) FROM cell_files;

CREATE TEMP TABLE parsed_values AS
SELECT cell, generate_subscripts(map_keys("values"), 1) AS place,
    unnest(map_keys("values")) AS name,
    unnest(map_values("values"), recursive := true)
FROM parsed_cells;
"""

TABLES = f"""
CREATE TABLE runs AS
SELECT {", ".join(TEXTS)}, seed,
    {", ".join(f"coalesce({name}, '{{}}')::VARCHAR AS {name}" for name in NESTED)},
    greatest(starts, json_array_length(attempts)) AS attempts
FROM parsed_runs WHERE folder = run_id;

CREATE TABLE cells AS
SELECT run_id, measurement, key, status, coalesce(kind, '') AS kind, version, seconds, reason, error
FROM parsed_cells ORDER BY cell;

CREATE TABLE results AS
SELECT
    c.run_id, r.model, r.compressor, r.baseline, coalesce(v.name, c.measurement) AS name,
    v.value, v.low, v.high, v.n, v.unit, v.better, c.version, c.status, c.measurement,
    coalesce(c.kind, '') AS kind, v.view, c.reason
FROM parsed_cells AS c
LEFT JOIN parsed_values AS v USING (cell)
LEFT JOIN runs AS r USING (run_id)
ORDER BY c.cell, v.place;

DROP TABLE parsed_runs;
DROP TABLE parsed_cells;
DROP TABLE parsed_values;
"""


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
    runs: list[tuple[str, int, bytes]] = []  # folder, starts, text
    cells: list[tuple[str, int, bytes]] = []  # folder, number, text
    for folder in run_ids(layout):
        text = read_text(layout.run_file(folder))
        if text is not None:
            starts = sum(1 for _ in json_files(layout.attempts(folder)))
            runs.append((folder, starts, text))
        for _, text in read_texts(layout.cells(folder)):
            cells.append((folder, len(cells), text))
    connection = duckdb.connect()
    _execute(connection, PARSED, run_files=_table("starts", runs), cell_files=_table("cell", cells))
    copies = "SELECT folder, run_id FROM parsed_runs WHERE folder != run_id"
    for folder, run_id in connection.execute(copies).fetchall():
        warn_of_copy(layout.run_file(folder), run_id)
    _execute(connection, TABLES)
    return connection


def _table(number: str, rows: list[tuple[str, int, bytes]]) -> pa.Table:
    """Texts of files, with their folder and a number."""
    folders, numbers, texts = zip(*rows, strict=True) if rows else ((), (), ())
    columns = {
        "folder": pa.array(folders, pa.string()),
        number: pa.array(numbers, pa.int64()),
        "text": pa.array(texts, pa.large_binary()).cast(pa.large_string()),
    }
    table = pa.table(columns)
    return pa.Table.from_batches(table.to_batches(max_chunksize=ROWS_A_THREAD), table.schema)


def _execute(connection: duckdb.DuckDBPyConnection, sql: str, **tables: Any) -> None:
    for name, table in tables.items():
        connection.register(name, table)
    connection.execute(sql)
    for name in tables:
        connection.unregister(name)
