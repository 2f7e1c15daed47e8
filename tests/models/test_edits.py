import copy
import json
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from core import targets
from core.errors import ConfigError, IncompatibleModel
from models.edits import Edits, enforce, history, mask, perform, sketch
from models.replacements import Replacement
from models.small.resnet_cifar import OptionA


def awake(model: nn.Module) -> nn.Module:
    """Eval mode, every parameter and statistic random: no zero or one hides a mistake."""
    generator = torch.Generator().manual_seed(0)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5, generator=generator)
            tensor.data *= torch.randint(0, 2, tensor.shape, generator=generator) * 2 - 1
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_var is not None:
            module.running_var.abs_()
    return model.eval()


def chain(**layers: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(layers))


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


class Scaled(nn.Module):
    """Channels-last linear layers with a bare parameter between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 6), nn.LayerNorm(6), nn.Linear(6, 2)
        self.scale = nn.Parameter(torch.ones(1, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.sigmoid(self.norm(self.first(x))) * self.scale)


# Sigmoid, since a removed channel must not leave sigmoid(0) = 0.5 behind.
NETWORKS = {
    "convolution": (
        lambda: chain(
            a=nn.Conv2d(3, 6, 3), n=nn.BatchNorm2d(6), s=nn.Sigmoid(), b=nn.Conv2d(6, 4, 3)
        ),
        {"a": {"out": [0, 4]}, "n": {"out": [0, 4]}, "b": {"in": [0, 4]}},
        (2, 3, 8, 8),
    ),
    "one_dimension": (
        lambda: chain(
            a=nn.Conv1d(3, 6, 3), n=nn.InstanceNorm1d(6, affine=True), b=nn.Conv1d(6, 4, 3)
        ),
        {"a": {"out": [5]}, "n": {"out": [5]}, "b": {"in": [5]}},
        (2, 3, 8),
    ),
    "transposed": (
        lambda: chain(a=nn.ConvTranspose2d(3, 6, 2), s=nn.Sigmoid(), b=nn.ConvTranspose2d(6, 4, 2)),
        {"a": {"out": [1, 2]}, "b": {"in": [1, 2]}},
        (2, 3, 4, 4),
    ),
    "grouped": (
        lambda: chain(
            a=nn.Conv2d(4, 8, 1),
            s=nn.Sigmoid(),
            g=nn.Conv2d(8, 12, 1, groups=2),
            b=nn.Conv2d(12, 2, 1),
        ),
        {
            "a": {"out": [0, 5, 7, 2]},
            "g": {"in": [0, 2, 5, 7], "out": [5, 6]},
            "b": {"in": [5, 6]},
        },
        (2, 4, 3, 3),
    ),
    "grouped_transposed": (
        lambda: chain(
            a=nn.Conv2d(4, 8, 1), g=nn.ConvTranspose2d(8, 12, 2, groups=2), b=nn.Conv2d(12, 2, 1)
        ),
        {"a": {"out": [3, 4]}, "g": {"in": [3, 4], "out": [0, 11]}, "b": {"in": [0, 11]}},
        (2, 4, 3, 3),
    ),
    "depthwise": (
        lambda: chain(
            a=nn.Conv2d(3, 6, 1),
            d=nn.Conv2d(6, 6, 3, groups=6),
            p=nn.PReLU(6),
            b=nn.Conv2d(6, 2, 1),
        ),
        {
            "a": {"out": [1, 2, 5]},
            "d": {"in": [1, 2, 5], "out": [1, 2, 5]},
            "p": {"out": [1, 2, 5]},
            "b": {"in": [1, 2, 5]},
        },
        (2, 3, 5, 5),
    ),
    "group_norm": (
        lambda: chain(
            a=nn.Conv2d(3, 6, 1), n=nn.GroupNorm(2, 6), s=nn.Sigmoid(), b=nn.Conv2d(6, 2, 1)
        ),
        {"a": {"out": [0, 5]}, "n": {"out": [0, 5]}, "b": {"in": [0, 5]}},
        (2, 3, 4, 4),
    ),
    "bare_parameter_and_layer_norm": (
        Scaled,
        {
            "first": {"out": [2, 3]},
            "norm": {"out": [2, 3]},
            "scale": {"out": [2, 3]},
            "last": {"in": [2, 3]},
        },
        (2, 5, 3),
    ),
    "flattened": (
        lambda: chain(a=nn.Conv2d(1, 3, 1), f=nn.Flatten(), b=nn.Linear(12, 2)),
        {"a": {"out": [1]}, "b": {"in": [4, 5, 6, 7]}},
        (2, 1, 2, 2),
    ),
    "own_way_of_cutting": (
        lambda: chain(
            a=nn.Conv2d(3, 4, 1),
            s=nn.Sigmoid(),
            o=OptionA(4, 8),
            t=nn.Sigmoid(),
            b=nn.Conv2d(8, 2, 1),
        ),
        {"a": {"out": [1]}, "o": {"in": [1], "out": [4, 7]}, "b": {"in": [4, 7]}},
        (2, 3, 4, 4),
    ),
}


@pytest.mark.parametrize(("make", "removed", "shape"), NETWORKS.values(), ids=NETWORKS)
def test_removing_and_masking_give_one_function(make, removed, shape) -> None:
    model, images = awake(make()), noise(*shape)
    narrow, masked = copy.deepcopy(model), copy.deepcopy(model)
    perform(narrow, Edits(removed=removed))
    mask(masked, Edits(removed=removed))
    with torch.no_grad():
        torch.testing.assert_close(narrow(images), masked(images), rtol=0, atol=1e-5)
        assert (masked(images) - model(images)).abs().max() > 1e-2
    assert count(narrow) < count(model) == count(awake(make()))


@pytest.mark.parametrize("edit", [perform, mask])
@pytest.mark.parametrize(("make", "removed", "shape"), NETWORKS.values(), ids=NETWORKS)
def test_edits_of_a_sketch_are_those_of_a_copy_and_leave_the_model(
    edit, make, removed, shape
) -> None:
    model = awake(make())
    first, parameter = next(iter(model.named_parameters()))
    zero = torch.zeros(parameter.shape, dtype=torch.bool)
    zero.view(-1)[-1] = True
    edits = Edits(removed=removed, masked={first: zero})
    before, drawn, whole = copy.deepcopy(model), sketch(model), copy.deepcopy(model)
    assert {p.data_ptr() for p in drawn.parameters()} == {p.data_ptr() for p in model.parameters()}
    edit(drawn, edits)
    edit(whole, edits)
    assert torch.equal(drawn(noise(*shape)), whole(noise(*shape)))
    assert all(map(torch.equal, model.state_dict().values(), before.state_dict().values()))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


WIDTHS = {
    "convolution": ("convolution", "a", {"in_channels": 3, "out_channels": 4, "groups": 1}),
    "batch_norm": ("convolution", "n", {"num_features": 4}),
    "consumer": ("convolution", "b", {"in_channels": 4, "out_channels": 4}),
    "grouped": ("grouped", "g", {"in_channels": 4, "out_channels": 10, "groups": 2}),
    "depthwise": ("depthwise", "d", {"in_channels": 3, "out_channels": 3, "groups": 3}),
    "prelu": ("depthwise", "p", {"num_parameters": 3}),
    "group_norm": ("group_norm", "n", {"num_channels": 4, "num_groups": 2}),
    "linear": ("bare_parameter_and_layer_norm", "first", {"in_features": 3, "out_features": 4}),
    "layer_norm": ("bare_parameter_and_layer_norm", "norm", {"normalized_shape": (4,)}),
}


@pytest.mark.parametrize(("network", "layer", "expected"), WIDTHS.values(), ids=WIDTHS)
def test_a_narrow_layer_knows_its_widths(network: str, layer: str, expected: dict) -> None:
    make, removed, _ = NETWORKS[network]
    model = make()
    perform(model, Edits(removed=removed))
    module = model.get_submodule(layer)
    assert {name: getattr(module, name) for name in expected} == expected


def test_the_kept_filters_are_the_right_ones() -> None:
    model = chain(a=nn.Conv2d(1, 3, 1), b=nn.Conv2d(3, 1, 1))
    model.a.weight.data = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    model.b.weight.data = torch.tensor([10.0, 20.0, 30.0]).view(1, 3, 1, 1)
    perform(model, Edits(removed={"a": {"out": [1]}, "b": {"in": [1]}}))
    assert model.a.weight.flatten().tolist() == [1, 3]
    assert model.b.weight.flatten().tolist() == [10, 30]


def test_each_group_of_a_grouped_layer_keeps_its_own_inputs() -> None:
    model = chain(g=nn.Conv2d(4, 2, 1, groups=2, bias=False))
    model.g.weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(2, 2, 1, 1)
    perform(model, Edits(removed={"g": {"in": [0, 3]}}))  # input 0 of group 0, input 1 of group 1
    assert model.g.weight.flatten().tolist() == [2, 3]


def test_an_embedding_loses_dimensions_not_words() -> None:
    model = chain(e=nn.Embedding(5, 3))
    perform(model, Edits(removed={"e": {"out": [0]}}))
    assert (list(model.e.weight.shape), model.e.embedding_dim) == ([5, 2], 2)


def test_statistics_of_a_norm_go_with_its_channels() -> None:
    model = chain(n=nn.BatchNorm2d(3, affine=False))
    model.n.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    perform(model, Edits(removed={"n": {"out": [0]}}))
    assert model.n.running_mean.tolist() == [2, 3]
    assert "running_mean" in model.n.state_dict()


@pytest.mark.parametrize(
    ("make", "removed", "error", "text"),
    [
        (lambda: chain(conv=nn.Conv2d(1, 2, 1)), {"cov": {"out": [0]}}, LookupError, "'conv'"),
        (
            lambda: chain(c=nn.Conv2d(1, 2, 1)),
            {"c": {"out": [2]}},
            ValueError,
            r"\[0, 2\), got \[2",
        ),
        (lambda: chain(c=nn.Conv2d(1, 2, 1)), {"c": {"out": [-1]}}, ValueError, r"got \[-1\]"),
        (lambda: chain(c=nn.Conv2d(1, 2, 1)), {"c": {"out": [0, 1]}}, IncompatibleModel, "c: "),
        (
            lambda: chain(g=nn.Conv2d(4, 4, 1, groups=2)),
            {"g": {"out": [0]}},
            IncompatibleModel,
            "g: a convolution needs equally many",
        ),
        (
            lambda: chain(n=nn.GroupNorm(2, 6)),
            {"n": {"out": [0, 1]}},
            IncompatibleModel,
            r"got \[1, 3\] a group",
        ),
        (lambda: chain(n=nn.BatchNorm2d(2)), {"n": {"in": [0]}}, ValueError, "`out` alone"),
        (lambda: chain(r=nn.ReLU()), {"r": {"out": [0]}}, IncompatibleModel, "of a ReLU"),
    ],
    ids=["name", "beyond", "negative", "all", "unequal_groups", "group_norm", "side", "type"],
)
def test_an_edit_that_does_not_fit_is_refused(make, removed, error, text) -> None:
    with pytest.raises(error, match=text):
        perform(make(), Edits(removed=removed))


def test_a_mask_of_another_shape_is_refused() -> None:
    model = chain(c=nn.Conv2d(2, 2, 1))
    with pytest.raises(ValueError, match=r"got \[2\] for \[2, 2, 1, 1\]"):
        perform(model, Edits(masked={"c.weight": torch.tensor([True, False])}))


def test_masked_entries_are_zero_and_stay_so() -> None:
    model = chain(f=nn.Linear(2, 2))
    flags = torch.tensor([[True, False], [False, True]])
    perform(model, Edits(masked={"f.weight": flags}))
    assert model.f.weight[flags].tolist() == [0, 0]
    model.f.weight.data += 1  # what an optimizer does
    enforce(model)
    assert model.f.weight[flags].tolist() == [0, 0]
    assert bool((model.f.weight[~flags] != 0).all())


def test_masks_of_several_edits_add_up() -> None:
    model = chain(f=nn.Linear(2, 1))
    perform(model, Edits(masked={"f.weight": torch.tensor([[True, False]])}))
    perform(model, Edits(masked={"f.weight": torch.tensor([[False, True]])}))
    model.f.weight.data += 1
    enforce(model)
    assert model.f.weight.tolist() == [[0, 0]]


@pytest.mark.parametrize("at_once", [True, False])
def test_masks_shrink_with_the_channels(at_once: bool) -> None:
    model = chain(f=nn.Linear(3, 2))
    masked = {"f.weight": torch.tensor([[True, False, False], [False, False, True]])}
    removed = {"f": {"in": [1]}}
    steps = [Edits(masked=masked), Edits(removed=removed)]
    for edits in [Edits(masked=masked, removed=removed)] if at_once else steps:
        perform(model, edits)
    model.f.weight.data.fill_(7)
    enforce(model)
    assert model.f.weight.tolist() == [[0, 7], [7, 0]]


def test_enforcing_what_was_never_masked_does_nothing() -> None:
    model = chain(f=nn.Linear(2, 2))
    before = model.f.weight.clone()
    enforce(model)
    assert torch.equal(model.f.weight, before)


def test_a_frozen_parameter_stays_frozen() -> None:
    model = chain(a=nn.Conv2d(1, 3, 1), b=nn.Conv2d(3, 1, 1))
    model.a.requires_grad_(False)
    perform(model, Edits(removed={"a": {"out": [0]}, "b": {"in": [0]}}))
    assert [p.requires_grad for p in model.a.parameters()] == [False, False]
    assert [p.requires_grad for p in model.b.parameters()] == [True, True]


def test_a_model_remembers_its_edits_in_order_and_so_do_its_copies() -> None:
    model = chain(a=nn.Conv2d(1, 3, 1), b=nn.Conv2d(3, 1, 1))
    first = Edits(removed={"a": {"out": [0]}, "b": {"in": [0]}})
    second = Edits(masked={"a.weight": torch.tensor([True, False]).view(2, 1, 1, 1)})
    assert history(model) == ()
    perform(model, first)
    twin = copy.deepcopy(model)
    perform(model, second)
    assert history(model) == (first, second)
    assert history(twin) == (first,)
    assert not any("edits" in name for name in model.state_dict())


def test_edits_survive_json() -> None:
    edits = Edits(
        removed={"a": {"out": [3, 1], "in": [2]}},
        masked={"a.weight": torch.rand(3, 5, 2, generator=torch.Generator().manual_seed(0)) < 0.5},
    )
    back = Edits.from_json(edits.to_json())
    assert back == edits
    assert torch.equal(back.masked["a.weight"], edits.masked["a.weight"])
    assert back.removed == {"a": {"out": [1, 3], "in": [2]}}


def test_a_mask_in_json_takes_an_eighth_of_a_byte_an_entry_at_most() -> None:
    flags = torch.rand(80_000, generator=torch.Generator().manual_seed(0)) < 0.5
    packed = Edits(masked={"w": flags}).to_json()["masked"]["w"]["bits"]
    assert len(packed) <= 1.01 * 10_000 * 4 / 3  # base64 writes 3 bytes as 4 letters


@pytest.mark.parametrize(
    "edits",
    [Edits(), Edits(removed={"a": {"out": []}}), Edits(masked={"w": torch.zeros(2).bool()})],
    ids=["nothing", "no_channels", "no_entries"],
)
def test_edits_that_take_nothing_are_empty(edits: Edits) -> None:
    assert edits.is_empty
    assert edits == Edits()


def test_edits_of_one_model_unite() -> None:
    one = Edits(removed={"a": {"out": [0]}}, masked={"w": torch.tensor([True, False])})
    other = Edits(removed={"a": {"out": [0, 2]}}, masked={"w": torch.tensor([False, True])})
    both = one.merge(other)
    assert both.removed == {"a": {"out": [0, 2]}}
    assert both.masked["w"].tolist() == [True, True]
    assert one.masked["w"].tolist() == [True, False]


class Halved(Replacement):
    """A linear layer with a scale behind it."""

    def __init__(self, linear: nn.Linear, scale: float) -> None:
        super().__init__()
        self.linear, self.scale = copy.deepcopy(linear), scale

    @classmethod
    def of(cls, layer: nn.Module, *, scale: float) -> "Halved":
        assert isinstance(layer, nn.Linear)
        return cls(layer, scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.linear(x)


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> str:
    """The target of `Halved`, as if its package were one of ours."""
    monkeypatch.setattr(targets, "_extra_prefixes", {__name__.partition(".")[0]})
    return f"{__name__}.Halved"


def test_a_layer_is_replaced_after_its_weights_were_masked(trusted: str) -> None:
    model = nn.Sequential(OrderedDict(a=nn.Linear(2, 2, bias=False), b=nn.Linear(2, 1)))
    model.a.weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    gone = torch.tensor([[True, False], [False, False]])
    edits = Edits(masked={"a.weight": gone}, replaced={"a": {"_target_": trusted, "scale": 0.5}})
    edits = Edits.from_json(json.loads(json.dumps(edits.to_json())))
    masked = copy.deepcopy(model)
    for changed, how in ((model, perform), (masked, mask)):
        how(changed, edits)
        assert changed.a(torch.tensor([[1.0, 1.0]])).tolist() == [[1.0, 3.5]]
    assert history(model) == (edits,)
    enforce(model)  # the mask went with the layer


def test_a_layer_is_not_narrowed_and_replaced_in_one_step(trusted: str) -> None:
    model = nn.Sequential(OrderedDict(a=nn.Linear(2, 2), b=nn.Linear(2, 1)))
    spec = {"_target_": trusted, "scale": 0.5}
    both = Edits(removed={"a": {"out": [0]}, "b": {"in": [0]}}, replaced={"a": spec})
    with pytest.raises(ValueError, match="steps of their own"):
        mask(model, both)


def test_what_replaces_a_layer_is_a_class_of_ours() -> None:
    with pytest.raises(ConfigError, match="outside the allowed packages"):
        perform(nn.Sequential(nn.Linear(1, 1)), Edits(replaced={"0": {"_target_": "os.system"}}))
