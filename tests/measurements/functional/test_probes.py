import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from measurements.functional.probes import linear_probe, transferred_probe


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clusters(n: int, classes: int, *, spread: float = 0.1) -> tuple[Tensor, Tensor]:
    labels = torch.arange(n) % classes
    return torch.eye(classes)[labels] + spread * torch.randn(n, classes, generator=seeded()), labels


def test_separated_classes_are_all_found() -> None:
    features, labels = clusters(60, 3)
    assert linear_probe(features, labels, generator=seeded()).tolist() == labels.tolist()


def test_class_names_may_have_gaps() -> None:
    features, labels = clusters(30, 3)
    found = linear_probe(features, labels * 5 + 2, generator=seeded())
    assert found.tolist() == (labels * 5 + 2).tolist()


def test_a_sample_is_not_predicted_from_itself() -> None:
    # noise with more features than samples: whoever has seen a label repeats it
    features = torch.randn(60, 200, generator=seeded())
    labels = (torch.rand(60, generator=seeded(1)) < 0.5).long()
    own = transferred_probe(features, labels, features)
    crossed = linear_probe(features, labels, generator=seeded())
    assert own.tolist() == labels.tolist()
    assert crossed.eq(labels).float().mean() < 0.75


def test_a_class_apart_by_one_sample_a_fold_is_learned_in_every_fold() -> None:
    features, labels = clusters(50, 2)
    keep = torch.cat([(labels == 0).nonzero().flatten(), (labels == 1).nonzero().flatten()[:5]])
    found = linear_probe(features[keep], labels[keep], generator=seeded())
    assert found.tolist() == labels[keep].tolist()


def test_the_unit_of_a_feature_does_not_matter() -> None:
    features, labels = clusters(80, 2, spread=0.8)
    scaled = features * torch.tensor([1e4, 1e-4]) + 5
    one = linear_probe(features, labels, generator=seeded())
    assert linear_probe(scaled, labels, generator=seeded()).eq(one).float().mean() >= 0.97


def test_the_prediction_is_logistic_regression() -> None:
    features, labels = clusters(80, 3, spread=0.8)
    centred = (features - features.mean(dim=0)) / features.std(dim=0, correction=0)
    expected = LogisticRegression(C=0.01).fit(centred[:60], labels[:60]).predict(centred[60:])
    standard = transferred_probe(centred[:60], labels[:60], centred[60:], strength=0.01)
    assert (standard.numpy() == expected).mean() >= 0.9  # standardised with 60, not 80


def test_equal_seeds_give_equal_predictions() -> None:
    features, labels = clusters(80, 2, spread=2.0)
    one, other = (linear_probe(features, labels, generator=seeded()) for _ in range(2))
    assert one.tolist() == other.tolist()


def test_the_generator_deals_the_samples_out() -> None:
    features, labels = clusters(80, 2, spread=2.0)
    one, other = (linear_probe(features, labels, generator=seeded(seed)) for seed in (0, 1))
    assert one.tolist() != other.tolist()


def test_a_constant_feature_does_no_harm() -> None:
    features, labels = clusters(30, 3)
    with_constant = torch.cat([features, torch.ones(30, 1)], dim=1)
    assert linear_probe(with_constant, labels, generator=seeded()).tolist() == labels.tolist()


def test_what_cannot_be_learned_is_refused() -> None:
    features, labels = clusters(30, 3)
    with pytest.raises(ValueError, match=r"5 samples a class, one a fold, got fewer of \[9\]"):
        linear_probe(features, labels.index_fill(0, torch.arange(4), 9), generator=seeded())
    with pytest.raises(ValueError, match="at least 2, got 1"):
        linear_probe(features, labels, generator=seeded(), folds=1)
    with pytest.raises(ValueError, match="above 0, got 0"):
        linear_probe(features, labels, generator=seeded(), strength=0)
    with pytest.raises(ValueError, match="at least two classes, got one"):
        transferred_probe(features, torch.zeros_like(labels), features)
