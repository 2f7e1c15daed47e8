import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from core.digest import file_digest
from core.errors import DataError, IncompatibleModel
from core.files import this_host
from models import artifacts
from models.artifacts import is_finished, load_artifact, program_of, read_artifact, save_artifact
from models.base_model import ClassifierModule
from models.checkpoints import load_weights
from models.edits import Edits, enforce, history, perform
from models.exported import ExportedClassifier
from models.onnx_runtime import OnnxClassifier, export_onnx
from models.small.digits import DigitsCNN
from models.wrapped import WrappedModel

IMAGES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
NARROW = Edits(
    removed={
        "backbone.block1.conv1": {"out": [0, 3]},
        "backbone.block1.bn1": {"out": [0, 3]},
        "backbone.block1.conv2": {"in": [0, 3]},
    }
)


def digits() -> DigitsCNN:
    torch.manual_seed(0)
    return DigitsCNN(pretrained=False).eval()


def narrow() -> DigitsCNN:
    model = digits()
    perform(model, NARROW)
    return model


def logits(model: nn.Module, images: Tensor = IMAGES) -> Tensor:
    with torch.no_grad():
        return model(images)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact that no test changes."""
    return save_artifact(tmp_path_factory.mktemp("artifacts"), narrow(), example_inputs=IMAGES)


@pytest.fixture
def own(stored: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return shutil.copytree(stored, tmp_path / stored.name)


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storing without `model.pt2`, which takes most of the time."""

    def refuse(*_: object) -> bytes:
        raise IncompatibleModel("torch.export cannot follow it")

    monkeypatch.setattr(artifacts, "export_bytes", refuse)


without_program = pytest.mark.filterwarnings("ignore:.*has no model.pt2:UserWarning")


def test_a_stored_model_comes_back_as_its_own_class(stored: Path) -> None:
    loaded = load_artifact(stored)
    assert type(loaded) is DigitsCNN
    assert torch.equal(logits(loaded), logits(narrow()))
    assert loaded.backbone.block1.conv1.out_channels == 14
    assert loaded.fingerprint() == narrow().fingerprint()
    assert not loaded.training


def test_loading_draws_no_random_numbers(stored: Path) -> None:
    before = torch.get_rng_state()
    load_artifact(stored)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_artifact_holds_the_promised_files(stored: Path) -> None:
    names = {"architecture.json", "edits.json", "weights.safetensors", "recipe.json", "model.pt2"}
    assert {path.name for path in stored.iterdir()} == names
    architecture = json.loads((stored / "architecture.json").read_text())
    assert architecture["constructor"]["_target_"] == "models.small.digits.DigitsCNN"
    assert architecture["input_shape"] == [1, 8, 8]
    assert architecture["num_classes"] == 10
    assert history(narrow()) == read_artifact(stored).steps == (NARROW,)


def test_an_artifact_names_no_folder_of_this_machine(stored: Path) -> None:
    content = b"".join(path.read_bytes() for path in stored.iterdir())
    assert str(Path(artifacts.__file__).parents[1]).encode() not in content
    assert b"site-packages" not in content


@without_program
@pytest.mark.usefixtures("no_export")
def test_recipe_and_lineage_are_kept(tmp_path: Path) -> None:
    lineage = {"base_id": "0" * 32, "operation": {"name": "l1", "parameters": {"sparsity": 0.1}}}
    folder = save_artifact(
        tmp_path,
        narrow(),
        example_inputs=IMAGES,
        recipe={"sparsity": 0.1},
        lineage=lineage,
        achieved={"params_after": 5},
    )
    known = read_artifact(folder)
    assert (known.recipe, known.lineage) == ({"sparsity": 0.1}, lineage)
    assert known.achieved == {"params_after": 5}


@without_program
@pytest.mark.usefixtures("no_export")
def test_equal_content_has_one_folder_and_other_content_another(tmp_path: Path) -> None:
    first = save_artifact(tmp_path, narrow(), example_inputs=IMAGES)
    changed = narrow()
    changed.backbone.head.bias.data[0] += 1
    again = save_artifact(tmp_path, narrow(), example_inputs=IMAGES, achieved={"seconds": 3.0})
    other_recipe = save_artifact(tmp_path, narrow(), example_inputs=IMAGES, recipe={"a": 1})
    other_weights = save_artifact(tmp_path, changed, example_inputs=IMAGES)
    assert first == again
    assert len({first, other_recipe, other_weights}) == 3
    assert {path.name for path in tmp_path.iterdir()} == {
        first.name,
        other_recipe.name,
        other_weights.name,
    }


@without_program
@pytest.mark.usefixtures("no_export")
def test_a_program_that_was_compared_is_not_made_again(stored: Path, tmp_path: Path) -> None:
    program = program_of(read_artifact(stored))
    other = save_artifact(
        tmp_path, narrow(), example_inputs=IMAGES, recipe={"a": 1}, program=program
    )
    assert (other / "model.pt2").read_bytes() == (stored / "model.pt2").read_bytes()
    assert read_artifact(other).digests["model.pt2"] == file_digest(stored / "model.pt2")


@without_program
@pytest.mark.usefixtures("no_export")
def test_the_program_of_another_model_is_left_aside(stored: Path, tmp_path: Path) -> None:
    changed = narrow()
    changed.backbone.block1.conv1.weight.data[0] += 1
    program = program_of(read_artifact(stored))
    folder = save_artifact(tmp_path, changed, example_inputs=IMAGES, program=program)
    assert read_artifact(folder).program_missing == "torch.export cannot follow it"


def test_storing_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = narrow().train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    save_artifact(tmp_path, model, example_inputs=IMAGES)
    assert model.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


@without_program
@pytest.mark.usefixtures("no_export")
def test_several_edits_are_replayed_in_order_and_masks_hold_afterwards(tmp_path: Path) -> None:
    model = narrow()
    name = "backbone.block1.conv1.weight"
    flags = torch.zeros(14, 16, 3, 3, dtype=torch.bool)
    flags[0] = True
    perform(model, Edits(masked={name: flags}))
    loaded = load_artifact(save_artifact(tmp_path, model, example_inputs=IMAGES))
    loaded.get_parameter(name).data += 1
    enforce(loaded)
    assert history(loaded) == history(model)
    assert torch.equal(loaded.get_parameter(name) == 0, flags)


@without_program
@pytest.mark.usefixtures("no_export")
def test_the_checkpoint_it_came_from_is_not_needed(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save(digits().backbone.state_dict(), file)
    model = DigitsCNN(checkpoint=str(file)).eval()
    folder = save_artifact(tmp_path / "artifacts", model, example_inputs=IMAGES)
    file.unlink()
    assert torch.equal(logits(load_artifact(folder)), logits(digits()))
    assert str(file) not in (folder / "architecture.json").read_text()


@without_program
@pytest.mark.usefixtures("no_export")
def test_an_artifact_is_a_checkpoint_and_can_be_stored_again(stored: Path, tmp_path: Path) -> None:
    model = DigitsCNN(checkpoint=str(stored)).eval()
    assert torch.equal(logits(model), logits(narrow()))
    perform(model, Edits(masked={"backbone.head.bias": torch.arange(10) < 3}))
    again = load_artifact(save_artifact(tmp_path, model, example_inputs=IMAGES))
    assert torch.equal(logits(again), logits(model))
    assert history(again)[0] == NARROW


@without_program
@pytest.mark.usefixtures("no_export")
def test_another_preprocessing_is_kept(tmp_path: Path) -> None:
    model = digits()
    model.preprocessing = artifacts.Preprocessing(size=(8, 8), mean=(0.1,), std=(0.7,))
    loaded = load_artifact(save_artifact(tmp_path, model, example_inputs=IMAGES))
    assert loaded.preprocessing == model.preprocessing
    assert torch.equal(logits(loaded), logits(model))


# -- without the class


def test_a_network_without_a_constructor_comes_back_for_inference(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    folder = save_artifact(tmp_path, network, example_inputs=IMAGES)
    with pytest.warns(UserWarning, match="inference only: a Sequential does not say how"):
        loaded = load_artifact(folder)
    assert isinstance(loaded, ExportedClassifier)
    assert loaded.num_classes == 5
    torch.testing.assert_close(logits(loaded), logits(network), rtol=0, atol=1e-6)


def test_a_held_network_comes_back_for_inference(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3))
    model = WrappedModel(network).eval()
    folder = save_artifact(tmp_path, model, example_inputs=IMAGES)
    with pytest.warns(UserWarning, match="WrappedModel cannot be constructed from JSON"):
        loaded = load_artifact(folder)
    torch.testing.assert_close(logits(loaded), logits(model), rtol=0, atol=1e-6)


def test_a_class_that_is_gone_is_told(own: Path) -> None:
    rewrite(own, "architecture.json", '"models.small.digits.DigitsCNN"', '"models.gone.Net"')
    with pytest.warns(UserWarning, match=r"there is no module 'models.gone'"):
        loaded = load_artifact(own)
    torch.testing.assert_close(logits(loaded), logits(narrow()), rtol=0, atol=1e-6)


def test_a_class_outside_the_allowed_packages_is_not_run(own: Path) -> None:
    rewrite(own, "architecture.json", '"models.small.digits.DigitsCNN"', '"os.system"')
    with pytest.warns(UserWarning, match="outside the allowed packages"):
        load_artifact(own)


def test_a_class_that_computes_something_else_by_now_is_not_used(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = logits(narrow())
    monkeypatch.setattr(DigitsCNN, "forward", lambda self, x: 2 * ClassifierModule.forward(self, x))
    with pytest.warns(UserWarning, match="computes other logits by now"):
        loaded = load_artifact(stored)
    torch.testing.assert_close(logits(loaded), expected, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("no_export")
def test_a_model_that_cannot_be_exported_is_stored_with_its_class_alone(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="has no model.pt2: torch.export cannot follow it"):
        folder = save_artifact(tmp_path, narrow(), example_inputs=IMAGES)
    assert torch.equal(logits(load_artifact(folder)), logits(narrow()))
    rewrite(folder, "architecture.json", "models.small.digits", "models.gone")
    with pytest.raises(DataError, match=r"there is no module .*; and torch.export cannot"):
        load_artifact(folder)


@pytest.mark.usefixtures("no_export")
def test_a_model_that_could_never_come_back_is_refused(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(IncompatibleModel, match=r"torch.export cannot follow it"):
        save_artifact(tmp_path, network, example_inputs=IMAGES)
    assert list(tmp_path.iterdir()) == []


# -- damage


@pytest.mark.parametrize("name", ["weights.safetensors", "edits.json", "model.pt2"])
def test_a_changed_byte_is_noticed_and_its_file_named(own: Path, name: str) -> None:
    content = bytearray((own / name).read_bytes())
    content[len(content) // 2] ^= 1
    (own / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is damaged"):
        load_artifact(own)


def test_a_folder_without_its_last_file_is_unfinished(own: Path) -> None:
    (own / "recipe.json").unlink()
    assert not is_finished(own)
    with pytest.raises(DataError, match=r"unfinished: it has no recipe\.json"):
        load_artifact(own)


@without_program
@pytest.mark.usefixtures("no_export")
def test_an_unfinished_folder_in_the_way_is_moved_aside(own: Path) -> None:
    (own / "recipe.json").unlink()
    assert save_artifact(own.parent, narrow(), example_inputs=IMAGES) == own
    assert is_finished(own)
    assert [path.suffix for path in own.parent.iterdir() if path != own] == [".unfinished"]


def test_a_missing_folder_and_another_format_are_told(own: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no artifact at"):
        load_artifact(tmp_path / "nowhere")
    rewrite(own, "architecture.json", '"format": 2', '"format": 3')
    with pytest.raises(DataError, match="has format 3, this version reads 2"):
        load_artifact(own)


def test_a_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(artifacts, "write_atomically", full)
    with pytest.raises(OSError, match="no space"):
        save_artifact(tmp_path, narrow(), example_inputs=IMAGES)
    assert list(tmp_path.iterdir()) == []


@without_program
@pytest.mark.usefixtures("no_export")
def test_what_killed_processes_left_is_removed_at_the_next_save(tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    dead = tmp_path / f".ab12.{this_host()}-{killed.pid}-7.partial"
    elsewhere = tmp_path / f".ab12.node-17-{killed.pid}-7.partial"
    alive = tmp_path / f".ab12.{this_host()}-{os.getppid()}-7.partial"
    for folder in (dead, elsewhere, alive):
        folder.mkdir()
        (folder / "weights.safetensors").write_bytes(bytes(9))
    stored = save_artifact(tmp_path, narrow(), example_inputs=IMAGES)
    assert set(tmp_path.iterdir()) == {stored, elsewhere, alive}


def rewrite(folder: Path, name: str, old: str, new: str) -> None:
    """Change a file of an artifact and its digest alike."""
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    last = json.loads((folder / "recipe.json").read_text())
    last["files"][name] = artifacts.file_digest(folder / name)
    (folder / "recipe.json").write_text(json.dumps(last))


FRESH_PROCESS = """
import sys, warnings
def no_pickle(event, arguments):
    if event == "pickle.find_class":
        raise RuntimeError(f"pickle looks for {arguments}")
import torch
from models.artifacts import load_artifact
sys.addaudithook(no_pickle)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    model = load_artifact(sys.argv[1])
assert any("inference only" in str(w.message) for w in told), told
images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    torch.save(model(images), sys.argv[2])
"""

PRIVATE_MODEL = """
from torch import nn
from models.base_model import ClassifierModule

class Private(ClassifierModule):
    def load_backbone(self):
        return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4))
"""


@pytest.mark.slow
def test_a_fresh_process_loads_it_without_its_class_and_without_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "private_model.py").write_text(PRIVATE_MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    from private_model import Private

    model = Private().eval()
    perform(
        model, Edits(removed={"backbone.0": {"out": [2]}, "backbone.3": {"in": range(72, 108)}})
    )
    folder = save_artifact(tmp_path / "artifacts", model, example_inputs=IMAGES)
    result = tmp_path / "logits.pt"
    (tmp_path / "private_model.py").unlink()
    subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, str(folder), str(result)],
        check=True,
        cwd=Path(artifacts.__file__).parents[1],
    )
    torch.testing.assert_close(torch.load(result), logits(model), rtol=0, atol=1e-5)


def test_loading_its_own_class_warns_of_nothing(stored: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_artifact(stored)
        load_weights(digits(), str(stored))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_a_model_run_from_a_file_takes_the_file_along(tmp_path: Path) -> None:
    file = export_onnx(digits(), tmp_path / "somewhere.onnx")
    counts = {"params": 3, "nonzero_params": 2, "macs": 1}
    deployed = OnnxClassifier(str(file), counts=counts)
    folder = save_artifact(tmp_path / "artifacts", deployed, example_inputs=IMAGES)
    again = save_artifact(tmp_path / "artifacts", deployed, example_inputs=IMAGES)
    assert folder == again
    file.unlink()
    moved = shutil.move(folder, tmp_path / "elsewhere")
    loaded = load_artifact(moved)
    assert isinstance(loaded, OnnxClassifier)
    assert loaded.counts == counts
    torch.testing.assert_close(logits(loaded), logits(digits()), atol=1e-4, rtol=1e-4)
    (moved / "model.onnx").write_bytes(b"no model")
    with pytest.raises(DataError, match=r"model\.onnx is damaged"):
        load_artifact(moved)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_another_file_is_another_artifact(tmp_path: Path) -> None:
    folders = set()
    for number, model in enumerate((digits(), narrow())):
        file = export_onnx(model, tmp_path / f"{number}.onnx")
        deployed = OnnxClassifier(str(file))
        folders.add(save_artifact(tmp_path / "all", deployed, example_inputs=IMAGES).name)
    assert len(folders) == 2
