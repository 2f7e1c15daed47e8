"""How well the features of a model tell the classes apart, without its own last layer."""

import torch
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.features import nearest_neighbours, require_labelled_features

TIES_AT_MOST = 50
"""Neighbours up to which a vote can be broken by weights 2^-1, 2^-2, ... in float64."""


def within_class_scatter(features: Tensor, labels: Tensor) -> float:
    """Neural collapse NC1: tr(S_W pinv(S_B)) / C.

    S_W is the covariance within the classes, S_B that of the class means around their mean. Classes
    weigh equally; where they are balanced, which the paper assumes, this is the paper's.

    Args:
        features: Shape [N, D], finite.
        labels: Classes, int64, shape [N]; at least two are present, others do not count.

    Returns:
        At least 0; 0 where all samples of a class have the same features. Lower is more separated.

    Raises:
        NotApplicable: One class alone, or all classes have the same mean.

    Example:
        >>> spread = torch.tensor([[0.7, 0.0], [1.3, 0.0], [-1.3, 0.0], [-0.7, 0.0]])
        >>> round(within_class_scatter(spread, torch.tensor([0, 0, 1, 1])), 6)  # .09 / 2
        0.045

    Reference:
        Papyan et al., Prevalence of neural collapse during the terminal phase of deep learning
        training (2020), NC1 as plotted in figure 6.
    """
    require_labelled_features(features, labels)
    present, class_of, counts = labels.unique(return_inverse=True, return_counts=True)
    if len(present) < 2:
        raise NotApplicable("the samples are of one class: nothing to separate")
    points = features.detach().double()
    points = points - points.mean(dim=0)
    means = points.new_zeros(len(present), points.shape[1]).index_add(0, class_of, points)
    means = means / counts.unsqueeze(1)
    directions, spreads = _between(means)
    inside = ((points - means[class_of]) @ directions / spreads).square().sum(dim=1)
    weights = 1 / (len(present) * counts[class_of].double())
    return (inside @ weights).item() / len(present)


def knn_accuracy(features: Tensor, labels: Tensor, *, k: int = 10) -> float:
    """Share of samples whose label wins the vote of the `k` nearest other samples.

    Distances are Euclidean. Of classes with equal votes, that of the nearest voter wins. For an
    interval leave samples out; a resample with replacement puts samples next to themselves.

    Args:
        features: Shape [N, D], finite, N > k.
        labels: Classes, int64, shape [N], not negative.
        k: Number of voters, in [1, 50].

    Returns:
        Fraction in [0, 1]; higher is better.

    Example:
        >>> line = torch.tensor([[0.0], [1.0], [10.0], [11.0], [12.0]])
        >>> knn_accuracy(line, torch.tensor([0, 0, 1, 1, 0]), k=1)
        0.8

    Reference:
        Cover & Hart, Nearest neighbor pattern classification (1967); leave-one-out.
    """
    require_labelled_features(features, labels, at_least=k + 1)
    if not 1 <= k <= TIES_AT_MOST:
        raise ValueError(f"k is a number of voters, in [1, {TIES_AT_MOST}], got {k}")
    return vote_accuracy(labels[nearest_neighbours(features, k=k).ids], labels)


def vote_accuracy(voters: Tensor, labels: Tensor) -> float:
    """Share of samples whose label wins the vote.

    Args:
        voters: Labels of the nearest others of every sample, nearest first, int64, shape [N, k].
        labels: Classes, int64, shape [N], not negative.

    Example:
        >>> vote_accuracy(torch.tensor([[1, 0, 0], [1, 0, 2]]), torch.tensor([0, 0]))
        0.5
    """
    k = voters.shape[1]
    weights = 1 + 0.5 ** torch.arange(1, k + 1, dtype=torch.float64, device=voters.device)
    votes = weights.new_zeros(len(labels), int(torch.maximum(voters.max(), labels.max())) + 1)
    votes.scatter_add_(1, voters, weights.expand_as(voters))
    return votes.argmax(dim=1).eq(labels).double().mean().item()


def _between(means: Tensor) -> tuple[Tensor, Tensor]:
    """Directions [D, R] in which the class means [C, D] differ, and how much [R]."""
    centred = (means - means.mean(dim=0)) / len(means) ** 0.5
    is_wide = centred.shape[0] <= centred.shape[1]
    squares, vectors = torch.linalg.eigh(centred @ centred.T if is_wide else centred.T @ centred)
    # centred means span at most C - 1 directions; what is found in the others is rounding
    rounding = max(means.shape) * torch.finfo(squares.dtype).eps
    kept = squares > rounding * torch.maximum(squares[-1], means.abs().max().square())
    if not kept.any():
        raise NotApplicable("all classes have the same mean: nothing separates them")
    spreads, directions = squares[kept].sqrt(), vectors[:, kept]
    return (centred.T @ directions / spreads if is_wide else directions), spreads
