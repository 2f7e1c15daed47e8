"""Linear probes: what a linear classifier finds in features it did not shape."""

from collections.abc import Iterator
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from measurements.functional.features import require_features, require_labelled_features

FOLDS = 5


def linear_probe(
    features: Tensor,
    labels: Tensor,
    *,
    generator: torch.Generator,
    folds: int = FOLDS,
    strength: float = 1.0,
) -> Tensor:
    """Class of every sample, by a logistic regression that has not seen the sample.

    Each class is dealt out evenly to the folds; a fold is predicted by what the others teach.
    Features are standardised with the mean and deviation of the samples learned from.

    Args:
        features: Shape [N, D], finite.
        labels: Classes, int64, shape [N]; each class has at least `folds` samples.
        generator: Deals the samples out.
        folds: At least 2.
        strength: Inverse strength of the L2 penalty, above 0.

    Returns:
        Predicted classes, int64 [N]: as good as any model's, for accuracy and its interval.

    Example:
        >>> line = torch.arange(20.0).unsqueeze(1)
        >>> labels = (line.flatten() >= 10).long()
        >>> found = linear_probe(line, labels, generator=torch.Generator().manual_seed(0))
        >>> found.eq(labels).float().mean().item() >= 0.9
        True

    Reference:
        Alain & Bengio, Understanding intermediate layers using linear classifier probes (2016);
        cross-fitted, so no split is set aside.
    """
    require_labelled_features(features, labels, at_least=folds)
    _require_enough(labels, folds)
    predicted = torch.full_like(labels, -1, device="cpu")
    for learned, held_out in _splits(labels.cpu(), folds, generator):
        predicted[held_out] = transferred_probe(
            features[learned], labels[learned], features[held_out], strength=strength
        )
    return predicted


def transferred_probe(
    features: Tensor, labels: Tensor, others: Tensor, *, strength: float = 1.0
) -> Tensor:
    """Classes of other samples, by a logistic regression on the features of some.

    Args:
        features: Learned from, shape [N, D], finite.
        labels: Classes, int64, shape [N]; at least two are present.
        others: To predict, shape [M, D], finite.
        strength: Inverse strength of the L2 penalty, above 0.

    Returns:
        Predicted classes, int64 [M].

    Example:
        >>> line = torch.tensor([[0.0], [1.0], [4.0], [5.0]])
        >>> others = torch.tensor([[2.0], [3.0]])
        >>> transferred_probe(line, torch.tensor([3, 3, 7, 7]), others).tolist()
        [3, 7]
    """
    require_labelled_features(features, labels)
    require_features(others, at_least=1)
    if len(labels.unique()) < 2:
        raise ValueError("expected samples of at least two classes, got one: nothing to learn")
    classifier = _classifier(strength)
    classifier.fit(_plain(features), labels.cpu().numpy())
    return torch.from_numpy(classifier.predict(_plain(others))).long()


def _require_enough(labels: Tensor, folds: int) -> None:
    if folds < 2:
        raise ValueError(f"folds is the number of parts, at least 2, got {folds}")
    present, counts = labels.unique(return_counts=True)
    if counts.min() < folds:
        few = present[counts < folds].tolist()
        raise ValueError(
            f"expected at least {folds} samples a class, one a fold, got fewer of {few}; "
            "use fewer folds or more samples"
        )


def _splits(
    labels: Tensor, folds: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Ids learned from and ids held out, once for each fold."""
    fold_of = torch.empty_like(labels)
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        shuffled = members[torch.randperm(len(members), generator=generator)]
        fold_of[shuffled] = torch.arange(len(members)) % folds
    for fold in range(folds):
        held_out = fold_of == fold
        yield (~held_out).nonzero().flatten(), held_out.nonzero().flatten()


def _classifier(strength: float) -> Any:
    if strength <= 0:
        raise ValueError(f"strength is an inverse penalty, above 0, got {strength}")
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


def _plain(features: Tensor) -> Any:
    return features.detach().double().cpu().numpy()
