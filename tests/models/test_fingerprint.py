import copy
import dataclasses
import enum
import functools
import importlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.data import DataLoader, TensorDataset

from core.errors import IncompatibleModel
from models.base_model import ClassifierModule
from models.edits import Edits, perform
from models.fingerprint import baked_tensors, fingerprint, source_of
from models.small.digits import DigitsCNN
from models.small.resnet_cifar import CifarResNet, OptionA
from models.timm_model import TimmModel
from models.wrapped import WrappedModel

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def model() -> DigitsCNN:
    torch.manual_seed(0)
    return DigitsCNN(pretrained=False).eval()


@pytest.mark.parametrize(
    "again",
    [
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: copy.deepcopy(model).train(),
        lambda model: copy.deepcopy(model).requires_grad_(False),
    ],
    ids=["deep copy", "pickled", "training mode", "frozen"],
)
def test_the_same_function_has_the_same_fingerprint(
    model: DigitsCNN, again: Callable[[nn.Module], nn.Module]
) -> None:
    assert fingerprint(again(model)) == model.fingerprint()


@pytest.mark.slow
def test_it_is_the_same_in_another_process(model: DigitsCNN, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(model.backbone.state_dict(), path)
    program = (
        "from models.small.digits import DigitsCNN; import sys; "
        f"sys.stdout.write(DigitsCNN(checkpoint={str(path)!r}).fingerprint())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout == DigitsCNN(checkpoint=str(path)).fingerprint()


def test_the_name_and_form_of_the_checkpoint_do_not_matter(
    model: DigitsCNN, tmp_path: Path
) -> None:
    save_file(model.backbone.state_dict(), tmp_path / "a.safetensors")
    torch.save({"state_dict": model.state_dict()}, tmp_path / "b.ckpt")
    first, second = (
        DigitsCNN(checkpoint=str(tmp_path / name)) for name in ("a.safetensors", "b.ckpt")
    )
    assert first.fingerprint() == second.fingerprint() == model.fingerprint()


def test_training_options_precision_and_baseline_do_not_matter(
    model: DigitsCNN, tmp_path: Path
) -> None:
    save_file(model.backbone.state_dict(), tmp_path / "a.safetensors")
    other = DigitsCNN(
        checkpoint=str(tmp_path / "a.safetensors"), learning_rate=0.5, dtype="bfloat16"
    )
    other.baseline = model
    assert other.fingerprint() == model.fingerprint()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.slow
def test_it_is_the_same_on_another_device(model: DigitsCNN) -> None:
    assert copy.deepcopy(model).cuda().fingerprint() == model.fingerprint()


def change_weight(model: ClassifierModule) -> None:
    weight = model.backbone.head.weight.data
    weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(10.0))


def change_statistics(model: ClassifierModule) -> None:
    model.backbone.bn.running_mean[0] += 1


def change_option(model: ClassifierModule) -> None:
    model.backbone.bn.eps = 1e-3


def change_stride(model: ClassifierModule) -> None:
    model.backbone.block1.conv1.dilation = (2, 2)


def change_activation(model: ClassifierModule) -> None:
    model.backbone.act = nn.GELU()


def change_precision(model: ClassifierModule) -> None:
    model.to(torch.float64)


@pytest.mark.parametrize(
    "change",
    [
        change_weight,
        change_statistics,
        change_option,
        change_stride,
        change_activation,
        change_precision,
    ],
)
def test_another_function_has_another_fingerprint(
    model: DigitsCNN, change: Callable[[ClassifierModule], None]
) -> None:
    before = model.fingerprint()
    change(model)
    assert model.fingerprint() != before


def test_a_buffer_outside_the_state_dict_counts() -> None:
    shortcut = OptionA(2, 4)
    before = fingerprint(shortcut)
    shortcut.source = torch.tensor([0, -1, 1, -1])
    assert fingerprint(shortcut) != before


def test_an_option_that_no_printed_form_shows_counts() -> None:
    torch.manual_seed(0)
    network = TimmModel("test_vit", pretrained=False)
    before, printed = network.fingerprint(), repr(network.backbone)
    attention = network.backbone.blocks[0].attn
    attention.num_heads, attention.head_dim = attention.num_heads * 2, attention.head_dim // 2
    assert repr(network.backbone) == printed
    assert network.fingerprint() != before


def test_arguments_that_a_subclass_brings_in_count() -> None:
    class Heated(DigitsCNN):
        def __init__(self, heat: float = 1.0, **options: Any) -> None:
            super().__init__(**options)
            self.heat = heat

        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) / self.heat

    torch.manual_seed(0)
    cold = Heated(pretrained=False)
    torch.manual_seed(0)
    hot = Heated(heat=2.0, pretrained=False)
    assert cold.fingerprint() != hot.fingerprint()


def test_a_mask_counts_as_the_weights_it_results_in(model: DigitsCNN) -> None:
    unmasked = model.fingerprint()
    masked, baked = copy.deepcopy(model), copy.deepcopy(model)
    for twin in (masked, baked):
        prune.l1_unstructured(twin.backbone.block1.conv1, "weight", amount=0.5)
    prune.remove(baked.backbone.block1.conv1, "weight")
    assert masked.fingerprint() == baked.fingerprint() != unmasked


def test_a_parametrization_counts_as_the_weights_it_results_in() -> None:
    weight = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    plain, parametrized, baked = (nn.Linear(2, 2, bias=False) for _ in range(3))
    for layer in (plain, parametrized, baked):
        layer.weight.data = weight.clone()
    for layer in (parametrized, baked):
        parametrizations.weight_norm(layer)
        layer.parametrizations.weight.original0.data *= 2
    parametrize.remove_parametrizations(baked, "weight")
    assert fingerprint(parametrized) == fingerprint(baked) != fingerprint(plain)


class Doubled(nn.Module):
    """A parametrization of our own: in no package."""

    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def test_a_parametrization_leaves_no_trace_of_its_class() -> None:
    plain, parametrized = (nn.Linear(2, 2, bias=False) for _ in range(2))
    parametrized.weight.data = torch.eye(2)
    plain.weight.data = 2 * torch.eye(2)
    parametrize.register_parametrization(parametrized, "weight", Doubled())
    assert fingerprint(parametrized) == fingerprint(plain)


def test_the_model_is_left_as_it_was(model: DigitsCNN) -> None:
    prune.l1_unstructured(model.backbone.block1.conv1, "weight", amount=0.5)
    parametrizations.spectral_norm(model.backbone.head)
    model.train()
    model.backbone.bn.eval()
    names = [name for name, _ in model.named_modules()]
    modes = [part.training for part in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.fingerprint()
    assert [name for name, _ in model.named_modules()] == names
    assert [part.training for part in model.modules()] == modes
    torch.testing.assert_close(dict(model.state_dict()), state, rtol=0, atol=0)


def test_baked_tensors_have_no_masks_in_them() -> None:
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data = torch.tensor([[1.0, 3.0]])
    prune.l1_unstructured(layer, "weight", amount=1)
    baked = baked_tensors(layer)
    assert {name: tensor.tolist() for name, tensor in baked.items()} == {"weight": [[0.0, 3.0]]}


SOURCE = """
from torch import nn

def helper(x):
    return x * {factor}

class Net(nn.Module):
    def forward(self, x):
        return helper(x)
"""


def load_class(folder: Path, *, factor: int) -> type[nn.Module]:
    (folder / "written_net.py").write_text(SOURCE.format(factor=factor))
    sys.modules.pop("written_net", None)
    importlib.invalidate_caches()
    module = importlib.import_module("written_net")
    return module.Net


def test_a_changed_source_counts_and_so_does_what_a_class_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    first = fingerprint(load_class(tmp_path, factor=2)())
    assert fingerprint(load_class(tmp_path, factor=2)()) == first
    assert fingerprint(load_class(tmp_path, factor=3)()) != first


def typed_class(factor: int) -> type[nn.Module]:
    names: dict[str, Any] = {"nn": nn, "__name__": "typed"}
    exec(SOURCE.format(factor=factor).replace("helper(x)\n", f"x * {factor}\n"), names)
    return names["Net"]


def test_a_class_that_is_in_no_file_is_known_by_its_code() -> None:
    assert source_of(typed_class(2)) == source_of(typed_class(2))
    assert source_of(typed_class(2)) != source_of(typed_class(3))


def test_two_depths_differ() -> None:
    assert CifarResNet(8).fingerprint() != CifarResNet(14).fingerprint()


# -- what a module holds beside its tensors and its parts


class Mode(enum.Enum):
    MEAN = 1
    MAX = 2


@dataclasses.dataclass
class Settings:
    heat: float
    names: tuple[str, ...] = ()


class Scaler:
    """An object of our own, with a reference to itself."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.again = self


def scaled(x: Tensor, factor: float) -> Tensor:
    return factor * x


def closing_over(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda x: factor * x


def holding(value: object, name: str = "held") -> nn.Module:
    layer = nn.Identity()
    object.__setattr__(layer, name, value)
    return layer


def linear(weight: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, weight)
    return layer


PAIRS: dict[str, tuple[Any, Any]] = {
    "number": (1.0, 2.0),
    "number and text": (1.0, "1.0"),
    "nothing": (None, False),
    "tensor": (torch.ones(2), torch.tensor([1.0, 2.0])),
    "sparse tensor": (torch.eye(2).to_sparse(), torch.ones(2, 2).to_sparse()),
    "array": (np.zeros(2), np.ones(2)),
    "array of objects": (np.array([None, 1]), np.array([None, 2])),
    "mapping": ({"a": 1}, {"a": 2}),
    "keys": ({1: -1}, {1: 1}),
    "nested": ({"a": [({"b": {1.5}},)]}, {"a": [({"b": {2.5}},)]}),
    "code of a lambda": (lambda x: x + 1, lambda x: x + 2),
    "name in a lambda": (lambda x: x.sin(), lambda x: x.cos()),
    "closure": (closing_over(1.0), closing_over(2.0)),
    "default": (lambda x, by=1: x * by, lambda x, by=2: x * by),
    "keyword default": (lambda x, *, by=1: x * by, lambda x, *, by=2: x * by),
    "partial": (functools.partial(scaled, factor=1.0), functools.partial(scaled, factor=2.0)),
    "method of an object": ("ab".upper, "cd".upper),
    "function of torch": (torch.relu, torch.tanh),
    "method": (Scaler(1.0).__init__, Scaler(2.0).__init__),
    "dtype": (torch.float16, torch.float32),
    "enum": (Mode.MEAN, Mode.MAX),
    "dataclass": (Settings(1.0), Settings(2.0)),
    "object": (Scaler(1.0), Scaler(2.0)),
    "path": (Path("a"), Path("b")),
    "set": ({"a", "b"}, {"a", "c"}),
    "class": (nn.ReLU, nn.GELU),
    "networks in a list": ([linear(1.0)], [linear(2.0)]),
    "generator": (np.random.default_rng(0), np.random.default_rng(1)),
}


@pytest.mark.parametrize("name", ["held", "_held"])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_every_value_that_a_part_holds_counts(pair: tuple[Any, Any], name: str) -> None:
    first, second = (nn.Sequential(holding(value, name)) for value in pair)
    assert fingerprint(first) != fingerprint(second)
    assert fingerprint(copy.deepcopy(first)) == fingerprint(first)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_every_value_that_the_classifier_itself_holds_counts(pair: tuple[Any, Any]) -> None:
    first, second = (WrappedModel(linear(1.0)) for _ in pair)
    object.__setattr__(first, "_heat", pair[0])
    object.__setattr__(second, "_heat", pair[1])
    assert first.fingerprint() != second.fingerprint()


@pytest.mark.parametrize(
    "pair",
    [
        ((1, 2), [1, 2]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (Path("a"), "a"),
        (torch.device("cpu"), torch.device("meta")),
        (closing_over(1.0), closing_over(1.0)),
    ],
    ids=["tuple", "order of a mapping", "path as text", "device", "equal closures"],
)
def test_what_a_file_does_not_keep_does_not_count(pair: tuple[Any, Any]) -> None:
    assert fingerprint(holding(pair[0])) == fingerprint(holding(pair[1]))


def test_a_value_that_cannot_be_read_is_refused_by_name() -> None:
    network = nn.Sequential(holding({"deep": [threading.Lock()]}, "_guard"))
    with pytest.raises(IncompatibleModel, match=r"attribute of 0: _guard, .* a _thread\.lock;"):
        fingerprint(network)


def test_a_network_in_a_list_may_hold_the_one_around_it() -> None:
    outer, inner = nn.Sequential(linear(1.0)), linear(2.0)
    outer.__dict__["children_"], inner.__dict__["parent_"] = [inner], [outer]
    before = fingerprint(outer)
    inner.weight.data += 1
    assert fingerprint(outer) != before


class Mapped(DigitsCNN):
    """With an argument that is a mapping."""

    def __init__(self, signs: dict[int, int], **options: Any) -> None:
        super().__init__(**options)


def test_a_mapping_as_an_argument_counts() -> None:
    assert Mapped({1: 1}).fingerprint() == Mapped({1: 1}).fingerprint()
    assert Mapped({1: 1}).fingerprint() != Mapped({1: -1}).fingerprint()


def class_made_by_a_function(factor: float) -> type[nn.Module]:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return factor * x

    return Net


def test_what_encloses_a_class_counts() -> None:
    one, same, other = (class_made_by_a_function(f)() for f in (1.0, 1.0, 2.0))
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)


def test_a_part_used_twice_counts_twice() -> None:
    act = nn.ReLU()
    once = nn.Sequential(nn.Flatten(), act, nn.Softplus())
    twice = nn.Sequential(nn.Flatten(), act, nn.Softplus(), act)
    assert fingerprint(once) != fingerprint(twice)
    assert fingerprint(twice) == fingerprint(
        nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Softplus(), nn.ReLU())
    )


@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_of_the_forward_pass_count_by_their_code(kind: str) -> None:
    plain, one, same, other = (linear(1.0) for _ in range(4))
    for layer, factor in ((one, 2.0), (same, 2.0), (other, 3.0)):
        handle = getattr(layer, kind)(lambda *_: None)  # so that the ids of the hooks differ
        getattr(layer, kind)(lambda *given, factor=factor: given[-1] * factor)
        handle.remove()
    assert fingerprint(one) == fingerprint(same)
    assert len({fingerprint(layer) for layer in (plain, one, other)}) == 3


def test_hooks_of_the_backward_pass_do_not_count() -> None:
    layer = linear(1.0)
    before = fingerprint(layer)
    layer.register_full_backward_hook(lambda *_: None)
    assert fingerprint(layer) == before


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:.*num_workers")
def test_training_and_edits_leave_no_trace_beside_the_tensors(model: DigitsCNN) -> None:
    before = model.fingerprint()
    batches = DataLoader(TensorDataset(torch.rand(4, 1, 8, 8), torch.arange(4)), batch_size=2)
    model.setup("fit")
    assert model.fingerprint() == before
    model.teardown("fit")
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **quiet)
    trainer.validate(model, batches, verbose=False)
    perform(model, Edits())
    model.model_name = "other"
    assert model.fingerprint() == before


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "levit_128s"])
def test_a_forward_pass_changes_nothing(name: str) -> None:
    network = timm.create_model(name).eval()
    before = fingerprint(network)
    with torch.no_grad():
        network(torch.rand(1, *network.pretrained_cfg["input_size"]))
    assert fingerprint(network) == before


PROGRAM = """
import importlib.util, sys
import torch
from models.fingerprint import fingerprint
spec = importlib.util.spec_from_file_location("values_of_test", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["values_of_test"] = module
spec.loader.exec_module(module)
for first, second in module.PAIRS.values():
    sys.stdout.write(fingerprint(module.holding([first, second])) + "\\n")
"""


@pytest.mark.slow
def test_values_are_described_alike_in_every_process() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, __file__],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert len(set(answer)) == len(PAIRS)
    assert answer == [fingerprint(holding(list(pair))) for pair in PAIRS.values()]
