"""What is told before a weight is loaded: data that only a measurement looks at."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from core.app import CONFIG
from core.errors import ConfigError
from core.preprocessing import Preprocessing
from core.targets import allow_targets
from datamodules.dummy import Dummy
from datamodules.folder import ImageFolder
from datamodules.stored_views import StoredViews
from evaluation.validate import require_fitting, validate
from models.base_model import ClassifierModule
from recording.recorder import Recorder

Configured = Callable[..., DictConfig]


class Published(StoredViews, Dummy):
    """Noise whose fog is published, in folders below the root."""

    kinds = ("fog",)

    def __init__(self, *, root: str) -> None:
        super().__init__(entry="published")
        self.root = root

    def stored(self, kind: str, severity: int) -> ImageFolder:
        return ImageFolder(root=f"{self.root}/{kind}/{severity}", entry="published")


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    def config(*overrides: str) -> DictConfig:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG)):
            composed = compose(
                "evaluate_defaults",
                overrides=[
                    "model.checkpoint=/nowhere/weights.pt",  # nobody looks at it here
                    f"results_dir={tmp_path / 'results'}",
                    *overrides,
                ],
            )
        with open_dict(composed.dataset_library):
            target = f"{__name__}.Published"
            composed.dataset_library.published = {"_target_": target, "root": str(tmp_path)}
        return composed

    return config


def faults(config: DictConfig) -> list[str]:
    with pytest.raises(ConfigError) as told:
        validate(config)
    return told.value.faults


def test_a_foreign_set_that_is_not_there_is_told_with_who_asks_for_it(
    configured: Configured, tmp_path: Path
) -> None:
    root = f"dataset_library.cifar100.root={tmp_path}"
    near = "measurement_library.ood.near=[cifar100,digits/flip]"
    found = faults(configured("measurements=[accuracy,ood]", near, root))
    (fault,) = found
    assert fault.startswith("ood: cifar100 test: ")
    assert "dataset_library.cifar100.root=" in fault


def test_every_published_view_that_is_not_there_is_told_at_once(
    configured: Configured, tmp_path: Path
) -> None:
    image = tmp_path / "fog" / "1" / "class_0"
    image.mkdir(parents=True)
    (image / "not decoded.png").touch()
    (tmp_path / "fog" / "2").mkdir()
    allow_targets([__name__])
    found = faults(
        configured(
            "measurements=[corruption_error]",
            "datasets=[published]",
            "measurement_library.corruption_error.corruptions=[fog,brightness]",
            "measurement_library.corruption_error.severities=[1,2,3]",
        )
    )
    assert len(found) == 2
    assert "fog/2 has no sub-folder" in found[0]
    assert "fog/3 does not exist" in found[1]


def test_a_dataset_that_is_not_there_is_told_once(configured: Configured, tmp_path: Path) -> None:
    root = f"dataset_library.cifar10.root={tmp_path}"
    (fault,) = faults(configured("measurements=[accuracy,nll,flips]", "datasets=[cifar10]", root))
    assert fault.startswith("cifar10 test: ")


@pytest.mark.parametrize(
    ("tasks", "nodes", "asked", "advice"),
    [
        (2, 1, (1, 1), "trainer.devices=2 trainer.num_nodes=1, or ntasks_per_node=1 and nodes=1"),
        (1, 1, (2, 1), "trainer.devices=1 trainer.num_nodes=1, or ntasks_per_node=2 and nodes=1"),
        (4, 2, (4, 1), "trainer.devices=2 trainer.num_nodes=2, or ntasks_per_node=4 and nodes=1"),
    ],
)
def test_processes_that_are_not_the_ranks_asked_for_are_refused(
    configured: Configured,
    monkeypatch: pytest.MonkeyPatch,
    tasks: int,
    nodes: int,
    asked: tuple[int, int],
    advice: str,
) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", str(tasks))
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", str(nodes))
    devices, num_nodes = asked
    ranks = (f"trainer.devices={devices}", f"trainer.num_nodes={num_nodes}")
    (fault,) = faults(configured(*ranks))
    assert f"srun has started {tasks} processes on {nodes} nodes" in fault
    assert advice in fault


def test_processes_that_are_the_ranks_asked_for_are_welcome(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    validate(configured("trainer.devices=2", "trainer.num_nodes=2"))


def test_several_nodes_need_somebody_to_start_their_ranks(configured: Configured) -> None:
    (fault,) = faults(configured("trainer.num_nodes=2"))
    assert "hydra.launcher.options.nodes=2" in fault


def test_a_shell_on_a_node_is_no_rank(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")
    validate(configured("trainer.devices=2"))


def test_what_is_complete_has_no_faults(configured: Configured) -> None:
    validate(configured("measurements=[accuracy,ood,ood_features,corruption_error,delta]"))


class Grey(ClassifierModule):
    """Takes images of one channel."""

    model_name = "grey"

    def load_backbone(self) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))

    def default_preprocessing(self) -> Preprocessing:
        return Preprocessing(mean=(0.0,), std=(1.0,))


def test_colour_images_do_not_go_into_a_grey_model_but_grey_ones_into_any(
    configured: Configured,
) -> None:
    config = configured("measurements=[accuracy]", "datasets=[dummy,digits]")
    recorder, model = Recorder.from_config(config), Grey()
    with pytest.raises(ConfigError) as told:
        require_fitting(model, config, recorder)
    assert told.value.faults == [
        "dummy has images of 3 channels, grey takes 1; choose another of the two"
    ]
    colour = Grey()
    colour.preprocessing = Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3)
    require_fitting(colour, config, Recorder.from_config(config))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["finetune=short"], "short learns from tuning.dataset=cifar10: "),
        (["compressor=taylor_fo_weight"], "taylor_fo_weight learns from tuning.dataset=cifar10: "),
        (["finetune=short", "tuning.dataset=imagenetv2"], "unknown split of imagenetv2 'train'"),
    ],
    ids=["finetune", "compressor", "no_train_split"],
)
def test_data_that_a_recipe_would_learn_from_and_is_not_there_is_told_before_the_start(
    configured: Configured, tmp_path: Path, overrides: list[str], told: str
) -> None:
    root = f"dataset_library.cifar10.root={tmp_path}"
    found = faults(
        configured("measurements=[accuracy]", root, "tuning.dataset=cifar10", *overrides)
    )
    assert len(found) == 1
    assert told in found[0]


def test_a_search_for_the_worst_network_is_refused(configured: Configured) -> None:
    line = ["measurements=[accuracy]", "compressor=net_adapt", "compressor.optimize_mode=minimize"]
    (fault,) = faults(configured(*line))
    assert "net_adapt.optimize_mode=minimize: the score of a recipe is an accuracy" in fault


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "compressor=int8_static compressor@then=l1_filter",
            "then=l1_filter comes after compressor",
        ),
        (
            "compressor=qat finetune=short",
            "finetune=short comes after compressor=qat, which onnxrunt",
        ),
    ],
)
def test_a_step_behind_another_runtime_is_refused_before_the_first_works(
    configured: Configured, line: str, told: str
) -> None:
    (fault,) = faults(configured("measurements=[accuracy]", *line.split()))
    assert told in fault


@pytest.mark.parametrize(
    "line",
    [
        "compressor@then=ort compressor=qat compressor.deploy=null",
        "compressor=l1_filter finetune=short compressor@then=int8_static",
    ],
)
def test_what_another_runtime_gets_last_is_welcome(configured: Configured, line: str) -> None:
    validate(configured("measurements=[accuracy]", *line.split()))


def test_a_recipe_that_learns_from_nothing_asks_for_no_train_split(
    configured: Configured, tmp_path: Path
) -> None:
    root = f"dataset_library.cifar10.root={tmp_path}"
    validate(configured("compressor=l1_filter", root, "tuning.dataset=cifar10"))
