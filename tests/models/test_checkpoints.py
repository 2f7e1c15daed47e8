import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from core.errors import DataError
from models import artifacts, exported
from models.artifacts import save_artifact
from models.checkpoints import load_weights, read_state
from models.small.digits import DigitsCNN
from models.small.resnet_cifar import CifarResNet


@pytest.fixture
def source() -> DigitsCNN:
    """A model with weights of its own."""
    torch.manual_seed(1)
    return DigitsCNN(pretrained=False).eval()


@pytest.fixture
def target() -> DigitsCNN:
    """A model that is to get them."""
    torch.manual_seed(2)
    return DigitsCNN(pretrained=False).eval()


def state_of(model: DigitsCNN, prefix: str = "") -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in model.backbone.state_dict().items()}


FORMS: dict[str, Callable[[DigitsCNN, Path], Any]] = {
    "safetensors": lambda m, path: save_file(state_of(m), path),
    "state dict": lambda m, path: torch.save(state_of(m), path),
    "old form of torch": lambda m, path: torch.save(
        state_of(m), path, _use_new_zipfile_serialization=False
    ),
    "state_dict level": lambda m, path: torch.save(
        {"epoch": 3, "state_dict": state_of(m), "best": 0.5}, path
    ),
    "data parallel": lambda m, path: torch.save(state_of(m, "module."), path),
    "compiled": lambda m, path: torch.save(state_of(m, "_orig_mod."), path),
    "lightning": lambda m, path: torch.save(
        {"state_dict": m.state_dict(), "pytorch-lightning_version": "2.6.0", "loops": {}}, path
    ),
    "all prefixes": lambda m, path: torch.save(
        {"state_dict": state_of(m, "module.model._orig_mod.backbone.")}, path
    ),
    "half precision": lambda m, path: torch.save(
        {k: t.half() if t.is_floating_point() else t for k, t in state_of(m).items()}, path
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_checkpoint_loads(
    form: str, source: DigitsCNN, target: DigitsCNN, tmp_path: Path
) -> None:
    path = tmp_path / "weights"  # the name says nothing about the form
    FORMS[form](source, path)
    load_weights(target, str(path))
    tolerance = 1e-3 if form == "half precision" else 0.0
    expected = source.backbone.state_dict()
    torch.testing.assert_close(target.backbone.state_dict(), expected, rtol=tolerance, atol=1e-6)


def test_a_constructor_loads_its_checkpoint(source: DigitsCNN, tmp_path: Path) -> None:
    save_file(state_of(source), tmp_path / "a.safetensors")
    images = torch.rand(2, 1, 8, 8)
    loaded = DigitsCNN(checkpoint=str(tmp_path / "a.safetensors")).eval()
    assert torch.equal(loaded(images), source(images))


def test_a_plain_network_loads_too(tmp_path: Path) -> None:
    torch.save({"weight": torch.tensor([[2.0]]), "bias": torch.tensor([1.0])}, tmp_path / "a.pt")
    layer = nn.Linear(1, 1)
    load_weights(layer, str(tmp_path / "a.pt"))
    assert layer(torch.tensor([3.0])).item() == 7.0


def test_a_part_that_is_called_like_a_prefix_keeps_its_name(tmp_path: Path) -> None:
    network = nn.ModuleDict({"module": nn.Linear(1, 1)})
    expected = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    torch.save(expected, tmp_path / "a.pt")
    load_weights(network, str(tmp_path / "a.pt"))
    torch.testing.assert_close(dict(network.state_dict()), expected)


def test_every_mismatch_is_told_and_nothing_is_loaded(
    source: DigitsCNN, target: DigitsCNN, tmp_path: Path
) -> None:
    state = state_of(source)
    del state["conv.weight"]
    state["conv.wieght"] = torch.ones(1)
    state["bn.weight"] = torch.ones(3)
    state["bn.num_batches_tracked"] = torch.tensor(0.5)
    torch.save(state, tmp_path / "a.pt")
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(DataError) as told:
        load_weights(target, str(tmp_path / "a.pt"))
    assert str(told.value).splitlines() == [
        f"{tmp_path}/a.pt does not fit DigitsNet:",
        "  missing (1): conv.weight",
        "  unexpected (1): conv.wieght",
        "  shape (1): bn.weight has [3], expected [16]",
        "  type (1): bn.num_batches_tracked has torch.float32, expected torch.int64",
    ]
    torch.testing.assert_close(dict(target.state_dict()), before, rtol=0, atol=0)


def test_names_that_become_one_without_their_prefixes_are_told(
    source: DigitsCNN, target: DigitsCNN, tmp_path: Path
) -> None:
    torch.save({**state_of(source), "module.conv.weight": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"unexpected \(1\): module.conv.weight"):
        load_weights(target, str(tmp_path / "a.pt"))


def test_a_head_of_other_classes_says_both_numbers(tmp_path: Path) -> None:
    torch.save(DigitsCNN(num_classes=7, pretrained=False).state_dict(), tmp_path / "a.pt")
    with pytest.raises(
        DataError, match=r"with 10 classes, its head has 7; pass model.num_classes=7"
    ):
        DigitsCNN(checkpoint=str(tmp_path / "a.pt"))


def test_a_wholly_other_network_is_told_in_a_few_lines(tmp_path: Path) -> None:
    torch.save(CifarResNet(20).state_dict(), tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"and \d+ more") as told:
        DigitsCNN(checkpoint=str(tmp_path / "a.pt"))
    assert len(str(told.value).splitlines()) <= 5


def test_batch_counts_that_old_files_lack_are_not_missed(
    source: DigitsCNN, target: DigitsCNN, tmp_path: Path
) -> None:
    state = {k: t for k, t in state_of(source).items() if "num_batches" not in k}
    torch.save(state, tmp_path / "a.pt")
    load_weights(target, str(tmp_path / "a.pt"))
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(target(images), source(images))


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"there is no checkpoint at {tmp_path}/a.pt"):
        DigitsCNN(checkpoint=f"{tmp_path}/a.pt")


class Evil:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def torch_bytes(path: Path, **options: Any) -> bytes:
    torch.save({"a": torch.arange(2000.0)}, path, **options)
    return path.read_bytes()


DAMAGED: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "empty": (lambda path: b"", "is empty"),
    "text": (lambda path: b"hello world, no checkpoint", "is no checkpoint"),
    "json": (lambda path: b'{"epochs": 3}', "is no checkpoint"),
    "few bytes": (lambda path: b"PK", "is no checkpoint"),
    "truncated": (lambda path: torch_bytes(path)[:2000], "is damaged"),
    "truncated, old form": (
        lambda path: torch_bytes(path, _use_new_zipfile_serialization=False)[:2000],
        "is damaged",
    ),
    "truncated, old form, header": (
        lambda path: torch_bytes(path, _use_new_zipfile_serialization=False)[:40],
        "is damaged",
    ),
    "truncated safetensors": (
        lambda path: (save_file({"a": torch.ones(200)}, path), path.read_bytes()[:300])[1],
        "is damaged",
    ),
    "other bytes in the header": (
        lambda path: torch_bytes(path).replace(b"data.pkl", b"data.pxx"),
        "is damaged",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_no_checkpoint_says_so_in_a_sentence(case: str, tmp_path: Path) -> None:
    make, sentence = DAMAGED[case]
    path = tmp_path / "a.pt"
    content = make(tmp_path / "whole.pt")
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence) as told:
        read_state(path)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("form", ["torch", "bare pickle"])
def test_a_file_that_would_run_code_is_refused_and_not_run(
    form: str, protocol: int, tmp_path: Path
) -> None:
    path, trap = tmp_path / "a.pt", tmp_path / "trap"
    content = {"state_dict": {"a": torch.ones(2), "b": Evil(trap)}}
    if form == "torch":
        torch.save(content, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(Evil(trap), protocol=protocol))
    with pytest.raises(DataError, match="would run code"):
        read_state(path)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Evil(trap)))
    assert trap.exists(), "the trap does not work, the test proves nothing"


def test_a_whole_model_is_refused_with_what_to_save_instead(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1), tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"torch.nn.modules.linear.Linear.*state_dict\(\)"):
        read_state(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (torch.ones(3), "holds no state dict but a Tensor"),
        ({}, "holds no state dict"),
        ({"epoch": 3, "weights": {"a": torch.ones(1)}}, "no tensors at epoch, weights"),
    ],
    ids=["a tensor", "nothing", "another level"],
)
def test_a_torch_file_without_weights_says_so(
    content: object, sentence: str, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(DataError, match=sentence):
        read_state(tmp_path / "a.pt")


def test_a_folder_that_is_no_artifact_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"without architecture.json, so no artifact"):
        DigitsCNN(checkpoint=str(tmp_path))


def test_a_url_is_downloaded_and_loaded(source: DigitsCNN, tmp_path: Path) -> None:
    save_file(state_of(source), tmp_path / "a.safetensors")
    loaded = DigitsCNN(checkpoint_url=(tmp_path / "a.safetensors").as_uri()).eval()
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(loaded(images), source(images))


def test_the_published_weights_of_a_resnet20_load_as_they_are(data_dir: Path) -> None:
    path = data_dir / "weights" / "resnet20-12fca82f.th"
    model = CifarResNet(20, checkpoint=str(path))
    stored = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    assert torch.equal(model.backbone.linear.weight, stored["module.linear.weight"])
    assert torch.equal(
        model.backbone.layer2[0].bn1.running_var, stored["module.layer2.0.bn1.running_var"]
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_an_artifact_folder_is_a_checkpoint(tmp_path: Path) -> None:
    stored = CifarResNet(14, num_classes=7).eval()
    images = torch.rand(2, 3, 32, 32)
    folder = save_artifact(tmp_path, stored, example_inputs=images)
    loaded = CifarResNet(14, checkpoint=str(folder)).eval()
    assert torch.equal(loaded(images), stored(images))
    assert loaded.num_classes == 7
    assert loaded.fingerprint() == stored.fingerprint()
    assert CifarResNet(**{**loaded.arguments, "checkpoint": str(folder)}).num_classes == 7
    with pytest.raises(DataError, match=r"of CifarResNet depth=14, not of .* depth=20"):
        CifarResNet(20, checkpoint=str(folder))
    with pytest.raises(DataError, match="not of DigitsCNN; choose its model="):
        DigitsCNN(checkpoint=str(folder))


def test_the_program_of_an_artifact_is_never_loaded_as_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_artifact(
        tmp_path, DigitsCNN(pretrained=False).eval(), example_inputs=torch.rand(2, 1, 8, 8)
    )
    loaded: list[object] = []
    monkeypatch.setattr(exported, "load_program", loaded.append)
    monkeypatch.setattr(artifacts, "_agree", lambda *_: False)  # its class computes other logits
    with pytest.raises(
        DataError, match=r"no checkpoint here: .* computes other logits by now"
    ) as e:
        DigitsCNN(checkpoint=str(folder))
    assert "make the artifact again" in str(e.value)
    assert loaded == []
