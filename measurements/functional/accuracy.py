"""Accuracy, in the whole and by class, from the columns of the records."""

from dataclasses import dataclass

import torch
from torch import Tensor

from measurements.functional.checks import require_columns


@dataclass(frozen=True, kw_only=True)
class WorstClass:
    """The class a model recognises least."""

    label: int
    recall: float  # fraction in [0, 1]
    count: int  # samples of the class


def topk_accuracy(rank: Tensor, *, k: int = 1) -> float:
    """Share of samples whose label is among the `k` best classes.

    Args:
        rank: Classes placed before the label, int, shape [N]; 0 is a hit, C a broken row.
        k: At least 1. With k >= C every sound row is a hit.

    Returns:
        Fraction in [0, 1]; higher is better.

    Example:
        >>> topk_accuracy(torch.tensor([0, 1, 4, 5]), k=5)
        0.75
    """
    require_columns(rank=rank)
    if k < 1:
        raise ValueError(f"k is the number of guesses, at least 1, got {k}")
    return _share(rank < k)


def per_class_recall(predicted: Tensor, labels: Tensor) -> dict[int, float]:
    """Share of each class's samples that are recognised.

    Args:
        predicted: Predicted classes, int64, shape [N]; -1 for a broken row.
        labels: True classes, int64, shape [N], not negative.

    Returns:
        Class -> fraction in [0, 1], ascending; classes without a sample are left out, because
        their recall is unknown, not 0.

    Example:
        >>> per_class_recall(torch.tensor([0, 1, 2]), torch.tensor([0, 0, 2]))
        {0: 0.5, 2: 1.0}
    """
    present, _, recall = _class_recall(predicted, labels)
    return dict(zip(present.tolist(), recall.tolist(), strict=True))


def worst_class(predicted: Tensor, labels: Tensor, *, min_count: int = 1) -> WorstClass:
    """The class of lowest recall among those with at least `min_count` samples.

    The lowest of several noisy recalls lies below the truth, the more so the smaller the classes.

    Args:
        predicted: Predicted classes, int64, shape [N]; -1 for a broken row.
        labels: True classes, int64, shape [N], not negative.
        min_count: Smaller classes are passed over.

    Returns:
        The class; of equals, the lowest.

    Example:
        >>> worst_class(torch.tensor([0, 1, 2]), torch.tensor([0, 0, 2]))
        WorstClass(label=0, recall=0.5, count=2)

    Reference:
        Sagawa et al., Distributionally robust neural networks (2020): worst-group accuracy, with
        the class as the group.
    """
    present, counts, recall = _class_recall(predicted, labels)
    large = counts >= min_count
    if not large.any():
        raise ValueError(f"no class has {min_count} samples; the largest has {counts.max()}")
    worst = int(recall.masked_fill(~large, torch.inf).argmin())
    return WorstClass(
        label=int(present[worst]), recall=recall[worst].item(), count=int(counts[worst])
    )


def macro_accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Mean recall over the classes that occur: accuracy as if all classes were of one size.

    Also called balanced accuracy; equal to accuracy where classes have equally many samples.

    Args:
        predicted: Predicted classes, int64, shape [N]; -1 for a broken row.
        labels: True classes, int64, shape [N], not negative.

    Returns:
        Fraction in [0, 1]; higher is better.

    Example:
        >>> macro_accuracy(torch.tensor([0, 1, 2]), torch.tensor([0, 0, 2]))
        0.75

    Reference:
        Brodersen et al., The balanced accuracy and its posterior distribution (2010).
    """
    return _class_recall(predicted, labels)[2].mean().item()


def nonfinite_share(finite: Tensor) -> float:
    """Share of rows with a NaN or infinite logit.

    Args:
        finite: Whether all logits of the row are finite, bool, shape [N].

    Returns:
        Fraction in [0, 1]; lower is better.

    Example:
        >>> nonfinite_share(torch.tensor([True, True, False, True]))
        0.25
    """
    require_columns(finite=finite)
    return _share(~finite)


def class_collapse(predicted: Tensor) -> float:
    """Share of samples that get the most predicted class.

    Args:
        predicted: Predicted classes, int64, shape [N]; -1 for a broken row, which counts as a
            sample but not as a class.

    Returns:
        Fraction in [0, 1]; 1 for a constant model, 0 only if every row is broken.

    Example:
        >>> class_collapse(torch.tensor([2, 2, 2, 0]))
        0.75
    """
    require_columns(predicted=predicted)
    counts = torch.bincount(predicted + 1)[1:]  # shifted, so that -1 is counted first and dropped
    return int(counts.max()) / len(predicted) if len(counts) else 0.0


def _class_recall(predicted: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Classes that occur, how often, and their recall, [K] each."""
    require_columns(predicted=predicted, labels=labels)
    counts = torch.bincount(labels)
    hits = torch.bincount(labels[predicted == labels], minlength=len(counts))
    present = counts.nonzero().squeeze(1)
    return present, counts[present], hits[present].double() / counts[present]


def _share(chosen: Tensor) -> float:
    return int(chosen.sum()) / len(chosen)
