"""What is tied, and in which way it was found out."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from compressors.analysis.dependency import channel_dependency
from compressors.pruning.filters import L1Filter
from compressors.pruning.labels import LabelGraph
from compressors.pruning.ties import find_ties
from compressors.resources import Resources
from compressors.search.oracle import Oracle
from compressors.tracing import look_at

IMAGES = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def transformer() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 8, "num_heads": 2, "mlp_ratio": 2.0}
    return VisionTransformer(depth=1, num_classes=3, **sizes).eval()


def test_a_search_narrows_hidden_units_and_heads_of_a_transformer(transformer: nn.Module) -> None:
    pruner = L1Filter(sparsity=0.5, op_types=["default", "Linear"])
    given = Resources(batches=lambda _: [], score=lambda _: 0.0, train=lambda *_, **__: None)
    oracle = Oracle(pruner._task(transformer, IMAGES, given), pruner)
    assert oracle.groups == {
        "patch_embed.proj": ["patch_embed.proj", "blocks.0.attn.proj", "blocks.0.mlp.fc2"],
        "blocks.0.attn.qkv": ["blocks.0.attn.qkv"],
        "blocks.0.mlp.fc1": ["blocks.0.mlp.fc1"],
    }
    ratios = {"blocks.0.mlp.fc1": 0.25, "blocks.0.attn.qkv": 0.5}
    block = oracle.model(oracle.candidate(ratios)).blocks[0]
    assert (block.mlp.fc1.out_features, block.mlp.fc2.in_features) == (12, 12)
    assert (block.attn.num_heads, block.attn.attn_dim, block.attn.proj.in_features) == (1, 4, 4)


def test_layers_of_a_transformer_are_tied_by_what_they_are_added_to(transformer: nn.Module) -> None:
    assert channel_dependency(transformer, IMAGES).to_csv() == (
        "Dependency Set,Layers\n"
        'Set 1,"patch_embed.proj,blocks.0.attn.proj,blocks.0.mlp.fc2"\n'
        "Set 2,blocks.0.attn.qkv\n"
        "Set 3,blocks.0.mlp.fc1\n"
        "Set 4,head\n"
    )


def test_a_frozen_transformer_is_pruned_like_another(transformer: nn.Module) -> None:
    recipe = L1Filter(sparsity=0.5, op_names=["blocks.*"])
    before = recipe.plan(transformer, IMAGES).edits
    assert recipe.plan(transformer.requires_grad_(False), IMAGES).edits == before
    assert before.removed["blocks.0.attn.num_heads"]["out"]


class Gated(nn.Module):
    """Two filters, one gates the other; then a layer behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 2, 1), nn.Conv2d(1, 4, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.a(x).chunk(2, dim=1)
        return self.head(self.b(one * other).mean((2, 3)))


def test_filters_that_go_all_together_stay_whole_and_the_rest_goes() -> None:
    decision = L1Filter(sparsity=0.5).plan(Gated().eval(), IMAGES)
    assert decision.edits.removed.keys() == {"b", "head"}
    assert not decision.edits.masked
    assert decision.notes == ["a: left whole, because more of its filters go together"]


class Halves(nn.Module):
    """One half of the filters passes, the other goes through a layer; nothing ties them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 4, 1), nn.Linear(8, 2)
        for index, norm in enumerate([1, 2, 7, 8, 3, 4, 5, 6]):
            self.a.weight.data[index] = norm

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.a(x).chunk(2, dim=1)
        x = torch.cat([one.relu(), self.b(other).relu()], dim=1)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize(("sparsity", "gone"), [(0.25, [0, 4]), (0.5, [0, 1, 4, 5])])
def test_equal_halves_lose_the_same_also_where_half_would_work(
    sparsity: float, gone: list[int]
) -> None:
    decision = L1Filter(sparsity=sparsity, op_names=["a"]).plan(Halves().eval(), IMAGES)
    assert decision.edits.removed["a"]["out"] == gone
    assert not decision.edits.masked


class Parted(nn.Module):
    """A gate in halves, which numbers follow, and an attention over places."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.a(x).chunk(2, dim=1)
        x = self.b(one * other.sigmoid()).flatten(2)
        shares = (x.transpose(1, 2) @ x).softmax(-1)
        return self.head((x @ shares).mean(-1))


def test_where_places_attend_numbers_are_followed_at_once() -> None:
    model = Parted().eval()
    ties = find_ties(model, IMAGES, ["a", "b"], look=look_at(model, IMAGES))
    assert [type(one.graph) for one in ties.found] == [LabelGraph, LabelGraph]
    assert [len(one.tie.bundles) for one in ties.found] == [4, 4]
