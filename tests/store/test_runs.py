from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from store.layout import Layout
from store.quarantine import CorruptFileWarning
from store.runs import Run, add_attempt, list_runs, read_run, write_run
from store.sealed import read_sealed, write_sealed


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def a_run(name: str = "digits_cnn-none-01", **fields: object) -> Run:
    given = {"model": "digits_cnn", "compressor": "none", "baseline": None, "fingerprint": "f"}
    return Run(**{"run_id": name, **given, "seed": 0, **fields})  # type: ignore[arg-type]


def test_a_run_is_read_as_it_was_written(layout: Layout) -> None:
    run = a_run(
        baseline="digits_cnn-none-00",
        config={"model": {"_target_": "models.x.Y"}, "limit_samples": None, "datasets": ["digits"]},
        lineage={"base_id": "b", "operation": {"name": "l1", "parameters": {"sparsity": 0.3}}},
        provenance={"git_dirty": True},
        attempts=[{"started": "2026-01-01T00:00:00", "pid": 7}],
    )
    write_run(layout, run)
    assert read_run(layout, run.run_id) == run


def test_an_absent_run_is_none(layout: Layout) -> None:
    assert read_run(layout, "digits_cnn-none-01") is None
    assert list_runs(layout) == []


def test_runs_are_listed_in_the_order_of_their_ids(layout: Layout) -> None:
    for name in ("b-none-1", "a-none-2"):
        write_run(layout, a_run(name))
    assert [run.run_id for run in list_runs(layout)] == ["a-none-2", "b-none-1"]


def test_starting_again_keeps_the_attempts_of_before(layout: Layout) -> None:
    for start in ("2026-01-01", "2026-01-02"):
        write_run(layout, a_run())  # as a fresh process does, which knows of no attempt
        add_attempt(layout, a_run().run_id, {"started": start})
    run = read_run(layout, a_run().run_id)
    assert run is not None
    assert run.attempts == [{"started": "2026-01-01"}, {"started": "2026-01-02"}]


def test_the_later_form_of_an_attempt_replaces_the_earlier(layout: Layout) -> None:
    write_run(layout, a_run())
    add_attempt(layout, a_run().run_id, {"id": "1", "started": "2026-01-01"})
    ended = {"id": "1", "started": "2026-01-01", "exit_code": 0}
    assert add_attempt(layout, a_run().run_id, ended).attempts == [ended]
    run = read_run(layout, a_run().run_id)
    assert run is not None
    assert run.attempts == [ended]


def test_attempts_added_at_the_same_time_are_all_kept(layout: Layout) -> None:
    write_run(layout, a_run())
    with ThreadPoolExecutor(8) as threads:
        list(
            threads.map(
                lambda n: add_attempt(layout, a_run().run_id, {"started": f"{n:02}"}), range(24)
            )
        )
    run = read_run(layout, a_run().run_id)
    assert run is not None
    assert [attempt["started"] for attempt in run.attempts] == [f"{n:02}" for n in range(24)]


def test_an_attempt_of_no_run_is_refused(layout: Layout) -> None:
    with pytest.raises(LookupError, match="there is no run 'gone-none-1'"):
        add_attempt(layout, "gone-none-1", {"started": "2026-01-01"})


def test_a_damaged_run_is_named_and_absent(layout: Layout) -> None:
    write_run(layout, a_run())
    layout.run_file(a_run().run_id).write_text("{")
    with pytest.warns(CorruptFileWarning, match=r"run\.json is damaged"):
        assert list_runs(layout) == []


def test_a_copied_run_folder_does_not_pose_as_another_run(layout: Layout) -> None:
    write_run(layout, a_run())
    layout.run(a_run().run_id).rename(layout.runs / "backup")
    with pytest.warns(CorruptFileWarning, match="is of run 'digits_cnn-none-01'"):
        assert read_run(layout, "backup") is None


def test_a_field_of_a_later_version_is_ignored(layout: Layout) -> None:
    write_run(layout, a_run())
    path = layout.run_file(a_run().run_id)
    stored = read_sealed(path)
    assert stored is not None
    write_sealed(path, {**stored, "mood": "good"})
    assert read_run(layout, a_run().run_id) == a_run()


def test_not_a_number_in_the_configuration_is_refused_by_its_key(layout: Layout) -> None:
    with pytest.raises(ValueError, match=r"config\.trainer\.gradient_clip_val is inf"):
        write_run(layout, a_run(config={"trainer": {"gradient_clip_val": float("inf")}}))
    assert read_run(layout, a_run().run_id) is None


def test_writing_a_run_leaves_only_named_files(layout: Layout) -> None:
    write_run(layout, replace(a_run(), attempts=[{"id": "1"}]))
    files = {path.name for path in layout.root.rglob("*") if path.is_file()}
    assert files == {"run.json", "1.json"}
