"""Every file of the configuration composes, and the command lines of the documents work."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from core import targets
from core.app import CONFIG, main
from core.configuration import KEYS_OF_AN_EVALUATION, check_types
from core.overrides import VERSION_BASE

ROOT = CONFIG.parent
MODELS = sorted(path.stem for path in (CONFIG / "models").glob("*.yaml"))
FILES = sorted(
    path.relative_to(CONFIG).with_suffix("").as_posix() for path in CONFIG.rglob("*.yaml")
)
DEFAULTS = sorted(path.stem for path in CONFIG.glob("*_defaults.yaml"))
SCIENCE = {"compressor", "finetune", "measurement_group", "mode"}
OPTIONS = [name for name in FILES if re.match("(?!models?/|hydra/).*/", name)]
GROUP_FILES = [name for name in FILES if name.split("/")[0] in SCIENCE]
ENTRIES = [name for name in DEFAULTS if (ROOT / f"{name.removesuffix('_defaults')}.py").exists()]

OF_A_MODE = {"mode", "trainer", "hydra"}


@pytest.fixture
def composed() -> Iterator[Callable[..., DictConfig]]:
    """Composes a command line: `composed("seed=1", config="train_defaults")`."""
    with initialize_config_dir(version_base=VERSION_BASE, config_dir=str(CONFIG)):
        yield lambda *line, config="evaluate_defaults": compose(config, overrides=list(line))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_chosen_by_the_name_of_its_file(name: str, composed: Any) -> None:
    config = composed(f"+model={name}", config=None)  # without the libraries: ten times faster
    assert config.model_name == name
    assert config.model._target_.startswith("models.")


def test_both_folders_of_models_list_the_same_names() -> None:
    assert (CONFIG / "model").is_symlink()
    assert sorted(path.stem for path in (CONFIG / "model").glob("*.yaml")) == MODELS


@pytest.mark.parametrize("name", DEFAULTS)
def test_an_entry_file_composes_without_arguments(name: str, composed: Any) -> None:
    assert composed(config=name)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_file_of_a_group_composes(name: str, composed: Any) -> None:
    group, _, option = name.rpartition("/")
    assert composed(f"+{group}={option}", config=None) is not None


@pytest.mark.parametrize("name", GROUP_FILES)
def test_a_choice_gives_a_sound_evaluation(name: str, composed: Any) -> None:
    group, _, option = name.rpartition("/")
    faults = check_types(composed(f"{group}={option}"), required=KEYS_OF_AN_EVALUATION)
    assert [fault for fault in faults if "has no value yet" not in fault] == []


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIG / "mode").glob("*.yaml")))
def test_a_mode_says_where_to_run_and_nothing_else(name: str) -> None:
    keys = set(OmegaConf.load(CONFIG / "mode" / f"{name}.yaml")) - {"defaults"}
    assert keys <= OF_A_MODE


def test_the_defaults_measure_the_embedded_model(composed: Any) -> None:
    config = composed()
    assert (config.model_name, config.datasets, config.seed) == ("digits_cnn", ["digits"], 0)
    assert (config.baseline, config.wandb.mode, config.mode) == (None, "offline", "local")


def test_settings_reach_the_second_compressor(composed: Any) -> None:
    config = composed("compressor@then=l1_filter", "then.sparsity=0.3")
    assert config.then.sparsity == 0.3
    assert "sparsity" not in config.compressor


def test_a_baseline_is_a_second_model(composed: Any) -> None:
    config = composed("model=cifar_resnet20", "model@baseline=resnet18")
    assert config.model_name == "cifar_resnet20"
    assert config.baseline.model_name == "resnet18"
    assert config.baseline.model._target_.startswith("models.")


def test_datasets_of_the_command_line_win_over_those_of_a_group(tmp_path: Path) -> None:
    (tmp_path / "measurement_group").mkdir()
    (tmp_path / "measurement_group" / "other.yaml").write_text(
        "# @package _global_\nmeasurement_group_name: other\nmeasurements: []\ndatasets: [mnist]\n"
    )
    line = [f"hydra.searchpath=[file://{tmp_path}]", "measurement_group=other"]
    with initialize_config_dir(version_base=VERSION_BASE, config_dir=str(CONFIG)):
        of_the_group = compose("evaluate_defaults", overrides=line)
        of_the_line = compose("evaluate_defaults", overrides=[*line, "datasets=[cifar10]"])
    assert of_the_group.datasets == ["mnist"]
    assert of_the_line.datasets == ["cifar10"]


def run(line: str, task: Callable[[DictConfig], Any], monkeypatch: pytest.MonkeyPatch) -> int:
    """Exit code of `python evaluate.py <line>` with another task."""
    monkeypatch.setattr(targets, "_extra_prefixes", set())
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *line.split(), *QUIET])
    with pytest.raises(SystemExit) as ended:
        main("evaluate_defaults")(task)()
    return int(ended.value.code or 0)


QUIET = ("hydra/job_logging=none", "hydra/hydra_logging=none")


@pytest.mark.parametrize(
    ("line", "jobs"),
    [
        ("", 1),
        ("compressor=l1_filter compressor.sparsity=0.5 finetune=short", 1),
        ("model=cifar_resnet20 model.checkpoint=x datasets=[cifar10] compressor=level", 1),
        ("-m mode=local_test compressor=level,l1_filter compressor.sparsity=0.3", 2),
        ("allowed_targets=[mine] measurements=[accuracy] limit_samples=10", 1),
    ],
)
def test_a_documented_command_line_is_sound(
    line: str, jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[DictConfig] = []
    assert run(line, seen.append, monkeypatch) == 0
    assert [fault for config in seen for fault in check_types(config)] == []
    assert len(seen) == jobs


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        (
            "model=resnet19 measurement=[accuracy]",
            ["unknown model 'resnet19', did you mean 'resnet18'?", "did you mean 'measurements'?"],
        ),
        (
            "models=resnet18 compressor=[level,l1_filter]",
            ["unknown group 'models', did you mean 'model'?", "would merge the files of a list"],
        ),
        ("compressor.sparsity=0.5", ["unknown key of compressor 'sparsity'", "compressor=none"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_all_faults_of_a_command_line_are_told(
    line: str,
    sentences: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(line, lambda config: pytest.fail("the task ran"), monkeypatch) == 2
    told = capfd.readouterr().err
    assert [sentence for sentence in sentences if sentence not in told] == []
    assert "Traceback" not in told


def test_measurements_as_a_string_are_not_taken_apart(composed: Any) -> None:
    faults = check_types(composed("measurements=accuracy"))
    assert faults == [
        "measurements is a list of names, got 'accuracy'; write measurements=[accuracy]"
    ]


STARTED = """
import runpy, sys
sys.argv = [sys.argv[1], *sys.argv[2:]]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as ended:
    assert ended.code == 0, ended.code
heavy = {"torch", "timm", "sklearn", "wandb", "duckdb", "submitit"} & set(sys.modules)
sys.exit(f"imported {sorted(heavy)}" if heavy else 0)
"""


@pytest.mark.parametrize("flag", ["--cfg=job", "--help"])
@pytest.mark.parametrize("name", ENTRIES)
def test_showing_a_configuration_imports_nothing_heavy(name: str, flag: str) -> None:
    entry = f"{name.removesuffix('_defaults')}.py"
    command = [sys.executable, "-c", STARTED, entry, flag]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert ("results_dir:" if flag == "--cfg=job" else f"python {entry}") in shown.stdout
