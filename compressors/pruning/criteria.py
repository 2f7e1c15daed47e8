"""Which filters go, judged by their weights alone, or by chance."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from compressors.base import Task
from compressors.pruning.coupling import filter_rows, width
from compressors.pruning.filters import FilterPruner, Rank, by_weights
from core.digest import digest


def euclidean_norms(layer: Any) -> Tensor:
    """Root of the sum of squares of each filter's weights, float64 [filters]."""
    return filter_rows(layer, layer.weight).square().sum(dim=1).sqrt()


def distances(layer: Any) -> Tensor:
    """Sum of the distances of each filter to all filters of its layer, float64 [filters]."""
    rows = filter_rows(layer, layer.weight)
    # through a matrix product, the distance of equal filters would not be zero
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").sum(dim=1)


class L2Filter(FilterPruner):
    """Removes the filters with the least Euclidean norm.

    Reference:
        He et al., Soft Filter Pruning, IJCAI 2018, section 3.2, with p = 2; here the filters go
        for good.
    """

    def ranker(self, task: Task) -> Rank:
        """Euclidean norm of each filter's weights."""
        return by_weights(task.model, euclidean_norms)


class FPGM(FilterPruner):
    """Removes the filters that are nearest to all others: those could stand for them.

    Reference:
        He et al., Filter Pruning via Geometric Median, CVPR 2019, equation 6: the sum over j of
        |w_i - w_j| on signed weights, so a filter and its negative are far from each other.
    """

    def ranker(self, task: Task) -> Rank:
        """Sum of the distances of each filter to the others."""
        return by_weights(task.model, distances)


class RandomFilter(FilterPruner):
    """Removes filters by chance: the control that every criterion has to beat.

    Reference:
        Mittal et al., Recovering from Random Pruning, WACV 2018.
    """

    needs: ClassVar = frozenset({"seed"})

    def ranker(self, task: Task) -> Rank:
        """Numbers in [0, 1) from the seed and the layer's name."""

        def rank(name: str) -> Tensor:
            seed = int(digest([task.given.seed, name])[:15], base=16)
            generator = torch.Generator().manual_seed(seed)
            count = width(task.model.get_submodule(name))
            return torch.rand(count, generator=generator, dtype=torch.float64)

        return rank
