import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from core import targets
from core.app import Task, main
from core.errors import ConfigError, DataError, IncompatibleModel, MissingDependency

Run = Callable[..., int]


@pytest.fixture
def run(small_config: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a task as an entry file would; returns the exit code."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.delenv("INTERPLAY_DEBUG", raising=False)
    monkeypatch.setattr(targets, "_extra_prefixes", set())

    def call(task: Task, *arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            main("defaults", folder=small_config)(task)()
        return int(ended.value.code or 0)

    return call


def fine(config: DictConfig) -> None:
    """A task that has nothing to say."""


def raising(error: BaseException) -> Task:
    def task(config: DictConfig) -> None:
        raise error

    return task


def test_the_task_sees_the_composed_configuration(run: Run) -> None:
    seen: list[DictConfig] = []
    assert run(seen.append, "compressor=l1", "compressor.sparsity=0.3", "datasets=[a,b]") == 0
    assert seen[0].compressor == {"name": "l1", "sparsity": 0.3}
    assert seen[0].datasets == ["a", "b"]


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1), (3, 3)])
def test_the_exit_code_is_what_the_task_returns(run: Run, returned: int | None, code: int) -> None:
    assert run(lambda config: returned) == code


@pytest.mark.parametrize("returned", [True, 0.5, -1, 256, "0"])
def test_what_is_no_exit_code_is_an_error_of_ours(
    run: Run, returned: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda config: returned) == 1
    assert f"expected None or an exit code in [0, 255] from a task, got {returned!r}" in (
        capfd.readouterr().err
    )


@pytest.mark.parametrize(
    "error",
    [
        ConfigError(["the sentence"]),
        DataError("the sentence"),
        IncompatibleModel("the sentence"),
        MissingDependency("the sentence"),
        FileNotFoundError("the sentence"),
        PermissionError("the sentence"),
        OSError("the sentence"),
        LookupError("the sentence"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_fault_of_the_user_is_one_sentence(
    run: Run, error: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(raising(error)) == 2
    assert capfd.readouterr() == ("", "the sentence\n")


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), KeyError("x"), IndexError("x"), ModuleNotFoundError("x")],
    ids=lambda error: type(error).__name__,
)
def test_a_mistake_of_ours_keeps_its_traceback(
    run: Run, error: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(raising(error)) == 1
    told = capfd.readouterr().err
    assert told.startswith("Traceback")
    assert "in task" in told


def test_a_key_the_code_invents_keeps_its_traceback(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda config: config.no_such_key) == 1
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["HYDRA_FULL_ERROR", "INTERPLAY_DEBUG"])
def test_the_traceback_of_a_fault_can_be_asked_for(
    run: Run, name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "1")
    assert run(raising(ConfigError(["the sentence"]))) == 2
    assert capfd.readouterr().err.startswith("Traceback")


def test_a_command_that_a_task_starts_does_not_take_our_wish_for_the_users(
    run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    inherited: dict[str, str] = {}
    assert run(lambda config: inherited.update(os.environ)) == 0
    for name in ("HYDRA_FULL_ERROR", "INTERPLAY_DEBUG"):
        monkeypatch.setenv(name, inherited[name])
    assert run(raising(ConfigError(["the sentence"]))) == 2
    assert capfd.readouterr().err == "the sentence\n"


def test_all_faults_of_the_command_line_are_told_before_anything_runs(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(raising(AssertionError("ran")), "sed=1", "compressor=[l1,l2]", "model=larg") == 2
    told = capfd.readouterr().err
    assert told.startswith("3 faults in the configuration:\n")
    assert "'compressor=[l1,l2]' would merge" in told
    assert "did you mean 'large'?" in told
    assert "did you mean 'seed'?" in told


def test_a_fault_only_the_whole_line_has_is_told_in_the_words_of_hydra(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(fine, "-m", "seed=interval(0,1)") == 2
    assert "does not support sweep type" in capfd.readouterr().err


def test_a_file_that_is_no_yaml_is_named(
    run: Run, small_config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (small_config / "compressor" / "l1.yaml").write_text("a: [1\n")
    assert run(fine, "compressor=l1") == 2
    assert "compressor/l1.yaml" in capfd.readouterr().err


def test_an_interrupt_tells_how_to_resume(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(raising(KeyboardInterrupt()), "seed=1", "datasets=[a, b]") == 130
    assert "to resume: python evaluate.py seed=1 'datasets=[a, b]'\n" in capfd.readouterr().err


def test_every_job_of_a_sweep_runs_and_the_worst_code_wins(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []

    def task(config: DictConfig) -> int:
        seen.append(config.seed)
        if config.seed == 1:
            raise DataError("no data")
        return 1 if config.seed == 2 else 0

    assert run(task, "-m", "seed=1,2,3") == 2
    assert seen == [1, 2, 3]
    assert capfd.readouterr().err == (
        "no data\n2 of 3 jobs failed:\n  exit code 2: seed=1\n  exit code 1: seed=2\n"
    )


def test_a_fault_of_several_jobs_is_told_once(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    def task(config: DictConfig) -> None:
        raise ConfigError(["no such data", "not here"] if config.seed else ["another"])

    assert run(task, "-m", "seed=0,1,2") == 2
    told = capfd.readouterr().err
    assert told.startswith("another\n2 faults in the configuration:\n  - no such data\n")
    assert told.count("  - no such data\n") == 1
    assert told.endswith(
        "  exit code 2: seed=2\n"
        "told once, a fault of 2 jobs: 2 faults in the configuration: - no such data - not here\n"
    )


def test_a_setting_reaches_every_job_of_a_swept_group(run: Run) -> None:
    seen: list[DictConfig] = []
    assert run(seen.append, "-m", "compressor=l1,l2", "compressor.sparsity=0.3") == 0
    assert [(one.compressor.name, one.compressor.sparsity) for one in seen] == [
        ("l1", 0.3),
        ("l2", 0.3),
    ]


def test_two_sweeps_are_crossed(run: Run) -> None:
    seen: list[DictConfig] = []
    assert run(seen.append, "-m", "compressor=none,l1", "compressor@then=none,l2") == 0
    assert [(one.compressor.name, one.then.name) for one in seen] == [
        ("none", "none"),
        ("none", "l2"),
        ("l1", "none"),
        ("l1", "l2"),
    ]


@pytest.mark.parametrize(
    "line",
    ["-m seed=1 model=small,large", "seed=1 -m model=small,large", "seed=1 model=small,large -m"],
)
def test_a_flag_may_stand_anywhere(run: Run, line: str) -> None:
    seen: list[DictConfig] = []
    assert run(seen.append, *line.split()) == 0
    assert [(one.seed, one.model_name) for one in seen] == [(1, "small"), (1, "large")]


def test_a_flag_may_have_a_value(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(fine, "seed=3", "--cfg", "job", "--package", "model", "model=large") == 0
    assert capfd.readouterr().out == "# @package model\nwidth: 64\n"


def test_packages_are_trusted_from_the_command_line(run: Run) -> None:
    assert run(fine, "allowed_targets=[elsewhere]") == 0
    assert targets._extra_prefixes == {"elsewhere"}


def test_packages_are_not_trusted_from_a_file(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(fine, "mode=trusting") == 2
    assert "allowed_targets counts on the command line alone" in capfd.readouterr().err
    assert targets._extra_prefixes == set()


def test_a_file_may_say_what_the_command_line_says(run: Run) -> None:
    assert run(fine, "mode=trusting", "allowed_targets=[elsewhere]") == 0


def test_a_run_leaves_nothing_in_the_working_directory(run: Run) -> None:
    assert run(fine) == 0
    assert list(Path.cwd().iterdir()) == []


def test_the_command_line_of_the_process_is_put_back(run: Run) -> None:
    assert run(fine, "-m", "compressor=l1,l2", "compressor.sparsity=0.3") == 0
    assert sys.argv[-1] == "compressor.sparsity=0.3"


def test_the_entry_keeps_the_name_of_its_task() -> None:
    assert main("defaults")(fine).__name__ == "fine"
