"""Several steps in one recipe: in slots, and in one slot of a file that lists them."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from compressors.base import Compressor
from compressors.cost import cost_of
from compressors.factorization.low_rank import LowRank
from compressors.pruning.filters import L1Filter
from compressors.quantization.int8 import Int8Static
from compressors.quantization.naive import Naive
from compressors.resources import Resources
from core.app import CONFIG
from core.errors import IncompatibleModel
from core.targets import build
from evaluation import compression
from evaluation.compression import find_or_compress
from evaluation.recipe import learns_from_data, recipe_faults, recipe_label, recipe_of
from models import artifacts
from models.artifacts import read_artifact, save_artifact
from models.base_model import ClassifierModule
from models.edits import history, perform
from models.small.digits import DigitsCNN
from recording.recorder import Recorder
from store.layout import Layout

CHAINS = sorted(
    path.stem
    for path in (CONFIG / "compressor").glob("*.yaml")
    if path.stem != "none" and "_target_" not in OmegaConf.load(path)
)
LEVEL = {"_target_": "compressors.pruning.level.Level", "name": "level", "sparsity": 0.5}
NAIVE = {"_target_": "compressors.quantization.naive.Naive", "name": "naive"}
SHORT = {"name": "short", "epochs": 1}
IMAGES = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
ROOT = CONFIG.parent


def configured(*overrides: str) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG)):
        return compose("evaluate_defaults", overrides=list(overrides))


@cache
def chain(name: str) -> dict[str, Any]:
    """The recipe of a file."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG)):
        return recipe_of(compose(overrides=[f"+compressor={name}"]))


def slots(**nodes: Any) -> DictConfig:
    """A configuration with these slots."""
    none = {slot: {"name": "none"} for slot in ("compressor", "finetune", "then")}
    model = {"_target_": "models.small.digits.DigitsCNN"}
    return OmegaConf.create({**none, "model": model, "trainer": {}, **nodes})


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model.eval()(IMAGES)


def test_there_are_files_of_several_steps() -> None:
    assert {"l1_filter_int8", "l1_filter_low_rank_int8"} <= set(CHAINS)


@pytest.mark.parametrize("name", CHAINS)
def test_each_step_of_a_file_is_one(name: str) -> None:
    recipe = chain(name)
    assert len(recipe) > 1
    assert all(key.startswith("compressor.") for key in recipe)
    for step in recipe.values():
        assert "epochs" in step or build(step, expects=Compressor).name == step["name"]
    text = (CONFIG / "compressor" / f"{name}.yaml").read_text()
    assert text.startswith("#")
    assert "Expect:" in text


def test_steps_stand_in_the_order_of_their_list() -> None:
    recipe = chain("l1_filter_low_rank_int8")
    names = [step["name"] for step in recipe.values()]
    assert names == ["l1_filter", "low_rank", "distill", "int8_static"]
    assert recipe["compressor.first"]["sparsity"] == 0.3  # of the list, not of l1_filter


def test_a_list_of_steps_is_named_and_told_as_its_steps() -> None:
    config = slots(compressor={"a": LEVEL, "b": {"name": "none"}}, finetune=SHORT)
    assert recipe_label(config) == "level_0.5+short"
    assert list(recipe_of(config)) == ["compressor.a", "finetune"]
    assert list(recipe_faults(config)) == []


def test_training_between_steps_needs_data() -> None:
    assert not learns_from_data(recipe_of(slots(compressor={"a": LEVEL, "b": LEVEL})))
    assert learns_from_data(recipe_of(slots(compressor={"a": LEVEL, "b": SHORT})))


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ({"a": LEVEL, "sparsity": 0.3}, ["compressor.sparsity is no step: steps have a name"]),
        ({"a": {**LEVEL, "name": "none"}}, ["compressor.a.name='none' and compressor.a has"]),
        ({"a": {**LEVEL, "sparsity": 1}}, ["sparsity is the fraction removed, in [0, 1)"]),
        ({"a": {**LEVEL, "name": ""}}, ["compressor.a needs a name"]),
        (SHORT, ["compressor=short has no _target_"]),
        ({"a": {"_target_": "os.system"}}, ["compressor needs a name"]),
        ({"a": {"_target_": "os.system", "name": "x"}}, ["outside the allowed packages"]),
    ],
    ids=str,
)
def test_a_step_with_a_fault_is_named(node: dict[str, Any], told: list[str]) -> None:
    faults = list(recipe_faults(slots(compressor=node)))
    assert [any(sentence in fault for fault in faults) for sentence in told] == [True] * len(told)
    assert len(faults) == len(told)


def test_another_order_of_equal_steps_is_another_recipe(tmp_path: Path) -> None:
    recorder: Any = SimpleNamespace(fingerprint=lambda _: "f", layout=Layout(tmp_path))
    chains = [
        slots(compressor=c, seed=0) for c in ({"a": LEVEL, "b": NAIVE}, {"b": NAIVE, "a": LEVEL})
    ]
    pointers = {compression._pointer(DigitsCNN(), chain, recorder) for chain in chains}
    assert len(pointers) == 2


class Steps:
    """Notes the steps that are carried out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.teachers: list[nn.Module] = []
        carried_out, finetune = compression._carried_out, compression.finetune

        def noting(model: ClassifierModule, step: dict[str, Any], *rest: Any) -> Any:
            self.names.append(step["name"])
            return carried_out(model, step, *rest)

        def teaching(*args: Any, baseline: nn.Module, **options: Any) -> None:
            self.names.append(args[2]["name"])
            self.teachers.append(baseline)
            finetune(*args, baseline=baseline, **options)

        monkeypatch.setattr(compression, "_carried_out", noting)
        monkeypatch.setattr(compression, "finetune", teaching)


FOUR = ("compressor=l1_filter_low_rank_int8", "compressor.third.epochs=1")
ZEROS = ("compressor=level", "compressor.sparsity=0.6", "finetune=distill", "finetune.epochs=1")

Make = Callable[..., tuple[ClassifierModule, Path]]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Carries out a recipe on the embedded model, or finds it; returns what lies in the store."""
    folder = tmp_path_factory.mktemp("composition")
    baseline = DigitsCNN()

    def made(*overrides: str) -> tuple[ClassifierModule, Path]:
        quick = ["tuning.samples=128", "trainer.accelerator=cpu"]
        config = configured(f"results_dir={folder}", *quick, *overrides)
        recorder = Recorder.from_config(config)
        model = find_or_compress(baseline, config, recorder)
        assert model is not None
        found = [read_artifact(path) for path in recorder.layout.artifacts.iterdir()]
        (stored,) = (one for one in found if one.recipe == recipe_of(config))
        return model, stored.folder

    made.baseline = baseline  # type: ignore[attr-defined]
    return made


def carried_out(recipes: list[Compressor], given: Resources | None = None) -> nn.Module:
    """What recipes make of the embedded model, without their checks."""
    model: nn.Module = DigitsCNN()
    for recipe in recipes:
        decision = recipe.plan(model, IMAGES, given)
        if decision.model is None:
            perform(model, decision.edits)
        model = decision.model or model
    return model


FRESH = """
import json, pickle, sys
import torch
from models.artifacts import load_artifact

def refuse(*_, **__):
    raise AssertionError("unpickled")

pickle.load = pickle.loads = pickle.Unpickler = torch.load = refuse
images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    for folder in sys.argv[1:]:
        print(json.dumps(load_artifact(folder)(images).tolist()))
print(json.dumps([name for name in sys.modules if name.split(".")[0] == "compressors"]))
"""


def reloaded(folders: list[Path]) -> list[Tensor]:
    """Logits of stored models in a process that knows no compressor and no pickle."""
    line = [sys.executable, "-W", "error", "-c", FRESH, *map(str, folders)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *answers, imported = map(json.loads, done.stdout.splitlines())
    assert imported == []
    return [torch.tensor(answer) for answer in answers]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter, and of artifacts without a program
def test_four_steps_are_carried_out_once_and_reload_anywhere(
    make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps = Steps(monkeypatch)
    composed, folder = make(*FOUR)
    assert steps.names == ["l1_filter", "low_rank", "distill", "int8_static"]
    assert steps.teachers == [make.baseline]
    again, same = make(*FOUR)
    assert len(steps.names) == 4
    assert same == folder
    assert again.fingerprint() == composed.fingerprint()
    achieved = read_artifact(folder).achieved
    slots_of = [f"compressor.{key}" for key in ("first", "second", "third", "fourth")]
    assert set(achieved["seconds"]) == {*slots_of}
    assert set(achieved) == {slots_of[0], slots_of[1], slots_of[3], "seconds"}
    thin = achieved["compressor.second"]
    assert thin["macs_before"] == achieved["compressor.first"]["macs_after"]
    assert composed.counts["macs"] == thin["macs_after"] < thin["macs_before"]

    def refuse(*_: Any) -> bytes:
        raise IncompatibleModel("no program is wanted here")

    monkeypatch.setattr(artifacts, "export_bytes", refuse)
    filters, thinner = L1Filter(sparsity=0.3), LowRank(sparsity=0.3)
    recipes = ([filters], [thinner], [Naive(quant_bits=8)], [filters, thinner, filters])
    alone = [carried_out(recipe) for recipe in recipes]
    assert [len(history(model)) for model in alone] == [1, 1, 0, 3]
    stored = [save_artifact(tmp_path, model, example_inputs=IMAGES) for model in alone]
    wanted = [logits(model) for model in (*alone, composed)]
    for got, expected in zip(reloaded([*stored, folder]), wanted, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_zeros_stay_zero_while_the_baseline_teaches(make: Any) -> None:
    model, _ = make(*ZEROS)
    before = dict(make.baseline.named_parameters())
    masks = history(model)[0].masked
    assert len(masks) == 9  # all layers but the head
    for name, mask in masks.items():
        weight = model.get_parameter(name)
        assert int((weight == 0).sum()) == int(mask.sum()) == int(0.6 * mask.numel() + 1e-9)
        assert not weight[mask].any()
        assert not torch.equal(weight[~mask], before[name][~mask])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_removal_and_integers_multiply(make: Any) -> None:
    both, folder = make(*FOUR)
    given = Resources(batches=lambda _: [(IMAGES, IMAGES)], score=unused, train=unused)
    whole = cost_of(carried_out([Int8Static()], given), IMAGES)
    thin, floats = cost_of(both, IMAGES), read_artifact(folder).achieved["compressor.second"]
    assert thin.macs == floats["macs_after"] < 0.5 * whole.macs
    assert thin.weight_bytes < min(floats["weight_bytes_after"], whole.weight_bytes)


def unused(*_: Any, **__: Any) -> float:
    raise AssertionError("neither scored nor trained")


def test_what_was_edited_meanwhile_is_made_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = configured(f"results_dir={tmp_path}", "compressor=level", "compressor.sparsity=0.55")
    recorder, baseline, code = Recorder.from_config(config), DigitsCNN(), ["old"]
    monkeypatch.setattr(compression, "_source", lambda _: code[0])
    really = compression._compress

    def slowly(*args: Any) -> Path:
        folder = really(*args)
        code[0] = "new"
        return folder

    monkeypatch.setattr(compression, "_compress", slowly)
    compression.compress(baseline, config, recorder)
    assert compression.find(baseline, config, recorder) is None
    code[0] = "old"
    assert compression.find(baseline, config, recorder) is not None
