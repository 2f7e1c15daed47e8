from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from compressors.base import Compressed, Report
from compressors.export import export_model, masks_of
from compressors.factorization.low_rank import LowRank
from compressors.pruning.level import Level
from core.errors import ConfigError, IncompatibleModel
from models.edits import Edits, perform
from models.small.digits import DigitsCNN

IMAGES = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Sum(nn.Module):
    """Two convolutions are added."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 1, bias=False), nn.Conv2d(1, 4, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.a(x) + self.b(x)).mean((2, 3)))


def compressed(before: nn.Module, *steps: Edits) -> Compressed:
    model = type(before)().eval()
    model.load_state_dict(before.state_dict())
    for edits in steps:
        perform(model, edits)
    report = Report(requested={}, achieved={})
    return Compressed(model=model, edits=Edits(), report=report, before=before)


def whole(*filters: int) -> Tensor:
    return torch.tensor([index in filters for index in range(4)])


def zeros(*, a: tuple[int, ...], b: tuple[int, ...]) -> Edits:
    """Filters that are zero and stay in place."""
    return Edits(
        masked={
            "a.weight": whole(*a).view(4, 1, 1, 1),
            "b.weight": whole(*b).view(4, 1, 1, 1),
            "b.bias": whole(*b),
        }
    )


def taken_out(*filters: int) -> Edits:
    out = {"out": filters}
    return Edits(removed={"a": out, "b": out, "head": {"in": filters}})


def test_masks_speak_of_the_network_before_all_steps() -> None:
    single = torch.zeros(4, 1, 1, 1, dtype=torch.bool)
    single[2] = True
    # the second step numbers what the first one left, 0 2 3: its 2 was 3 before
    result = compressed(
        Sum().eval(), Edits(masked={"a.weight": single}), taken_out(1), taken_out(2)
    )
    masks = masks_of(result.before, result.model)
    assert masks["a"]["weight"].flatten().tolist() == whole(1, 2, 3).tolist()
    assert masks["b"]["weight"].flatten().tolist() == whole(1, 3).tolist()
    assert masks["b"]["bias"].tolist() == whole(1, 3).tolist()
    assert masks["head"]["weight"].tolist() == [whole(1, 3).tolist()] * 2
    assert not masks["head"]["bias"].any()


def test_masks_say_how_many_parameters_went() -> None:
    before = DigitsCNN(pretrained=False).eval()
    inside = {"backbone.block1.conv1": {"out": [0, 5]}, "backbone.block1.bn1": {"out": [0, 5]}}
    result = compressed(before, Edits(removed={**inside, "backbone.block1.conv2": {"in": [0, 5]}}))
    masks = masks_of(before, result.model)
    assert list(masks) == ["block1.conv1", "block1.bn1", "block1.conv2"]
    gone = sum(int(mask.sum()) for parts in masks.values() for mask in parts.values())
    sizes = [sum(p.numel() for p in model.parameters()) for model in (before, result.model)]
    assert gone == sizes[0] - sizes[1] == 2 * (144 + 2 + 144)


def test_masks_of_a_layer_that_computes_in_few_bits_are_those_of_the_layer() -> None:
    held = Edits(replaced={"a": {"_target_": "models.simulated.Binary"}})
    later = Edits(
        removed={name: {"out": [0]} for name in ("a.layer", "b")} | {"head": {"in": [0]}},
        masked={"a.layer.weight": torch.tensor([False, False, True]).view(3, 1, 1, 1)},
    )
    result = compressed(Sum().eval(), taken_out(1), held, later)
    masks = masks_of(result.before, result.model)
    assert masks.keys() == {"a", "b", "head"}
    assert masks["a"]["weight"].flatten().tolist() == whole(0, 1, 3).tolist()
    assert masks["b"]["bias"].tolist() == whole(0, 1).tolist()


def test_factors_have_masks_of_their_own() -> None:
    split = {"_target_": "models.factorized.Factorized", "method": "svd", "ranks": [1]}
    integers = {"_target_": "models.quantized.IntegerLinear", "bits": 8}
    zero = torch.tensor([[True], [False]])
    result = compressed(
        Sum().eval(),
        taken_out(2),
        Edits(replaced={"head": split}),
        Edits(masked={"head.last.weight": zero}),
        Edits(replaced={"head.first": integers}),
    )
    masks = masks_of(result.before, result.model)
    assert masks.keys() == {"a", "b", "head", "head.last"}
    assert masks["head"]["weight"].tolist() == [whole(2).tolist()] * 2
    assert masks["head.last"]["weight"].tolist() == zero.tolist()
    assert not masks["head.last"]["bias"].any()


def test_recipes_behind_one_that_replaces_layers_leave_masks() -> None:
    before, after = DigitsCNN(), DigitsCNN()
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for recipe in (LowRank(energy=0.3, op_names=["block3.conv2"]), Level(sparsity=0.5)):
        perform(after, recipe.plan(after, images).edits)
    masks = masks_of(before, after)
    assert {"conv", "block3.conv2.first", "block3.conv2.last"} < masks.keys()
    zeros = {
        name: parameter.detach() == 0
        for name, parameter in after.backbone.named_parameters()
        if not name.endswith("bias")
    }
    found = {f"{layer}.weight": parts["weight"] for layer, parts in masks.items()}
    assert all(torch.equal(mask, zeros[name]) for name, mask in found.items())


def test_a_network_that_lost_nothing_has_no_masks() -> None:
    with pytest.raises(IncompatibleModel, match="nothing was pruned"):
        masks_of(Sum(), Sum())


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_weights_and_masks_are_plain_files_with_the_networks_own_names(
    ending: str, tmp_path: Path
) -> None:
    result = compressed(DigitsCNN(pretrained=False).eval(), Edits(
        masked={"backbone.head.bias": torch.arange(10) < 3}
    ))  # fmt: skip
    paths = result.export_model(f"model{ending}", f"mask{ending}", folder_name=str(tmp_path))
    assert paths == [tmp_path / f"model{ending}", tmp_path / f"mask{ending}"]
    if ending == ".pth":
        state, masks = (torch.load(path, weights_only=True) for path in paths)
        mask = masks["head"]["bias"]
    else:
        state, masks = map(load_file, paths)
        mask = masks["head.bias"]
    network = DigitsCNN(pretrained=False).backbone
    network.load_state_dict(state)
    assert mask.tolist() == [True] * 3 + [False] * 7
    assert network.head.bias[mask].tolist() == [0, 0, 0]


def test_speedup_takes_out_what_all_tied_layers_mask(tmp_path: Path) -> None:
    result = compressed(Sum().eval(), zeros(a=(0, 1), b=(1, 2)))
    (path,) = export_model(
        result, "m.safetensors", folder_name=str(tmp_path), speedup=True, dummy_input=IMAGES
    )
    state = load_file(path)
    assert {name: list(tensor.shape) for name, tensor in state.items()} == {
        "a.weight": [3, 1, 1, 1], "b.weight": [3, 1, 1, 1], "b.bias": [3],
        "head.weight": [2, 3], "head.bias": [2],
    }  # fmt: skip
    assert result.model.a.weight.shape[0] == 4


def test_speedup_without_an_input_is_refused_where_one_is_needed(tmp_path: Path) -> None:
    masked, removed = (
        compressed(Sum().eval(), edits) for edits in (zeros(a=(1,), b=(1,)), taken_out(1))
    )
    with pytest.raises(ConfigError, match="give dummy_input"):
        masked.export_model("m.pth", folder_name=str(tmp_path), speedup=True)
    assert list(tmp_path.iterdir()) == []
    (path,) = removed.export_model("m.pth", folder_name=str(tmp_path), speedup=True)
    assert torch.load(path)["a.weight"].shape[0] == 3


def test_speedup_needs_a_filter_that_is_masked_as_a_whole(tmp_path: Path) -> None:
    result = compressed(Sum().eval(), zeros(a=(0,), b=(1,)))
    with pytest.raises(IncompatibleModel, match="none is masked in all layers"):
        result.export_model("m.pth", folder_name=str(tmp_path), speedup=True, dummy_input=IMAGES)


def test_names_of_other_formats_are_refused_all_at_once(tmp_path: Path) -> None:
    result = compressed(Sum().eval(), taken_out(1))
    with pytest.raises(ConfigError) as told:
        result.export_model("model.onnx", "mask.npz", folder_name=str(tmp_path))
    assert len(told.value.faults) == 2
    assert "got 'model.onnx'" in told.value.faults[0]


def test_a_model_of_another_runtime_has_no_weights_to_write(tmp_path: Path) -> None:
    result = compressed(Sum().eval(), taken_out(1))
    result.model.runtime = "onnxruntime"
    with pytest.raises(IncompatibleModel, match="run by onnxruntime"):
        result.export_model("m.pth", folder_name=str(tmp_path))
