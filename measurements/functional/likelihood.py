"""Proper scores of the predicted probabilities, from the columns of the records."""

from torch import Tensor

from measurements.functional.checks import require_columns


def negative_log_likelihood(log_p_label: Tensor) -> float:
    """Mean surprise at the true class.

    Args:
        log_p_label: Log probability of the true class in nats, shape [N], at most 0.

    Returns:
        Nats, at least 0; lower is better. A uniform prediction of C classes has ln C.

    Example:
        >>> import torch
        >>> round(negative_log_likelihood(torch.tensor([0.5, 0.125]).log()), 6)  # ln 2, 3 ln 2
        1.386294

    Reference:
        Good, Rational decisions (1952).
    """
    require_columns(log_p_label=log_p_label)
    return -log_p_label.double().mean().item()


def brier_scores(log_p_label: Tensor, sum_p2: Tensor) -> Tensor:
    """Squared distance of the predicted probabilities from the truth, a number a sample.

    The sum over classes of (p_k - [k = y])^2 is 1 - 2 p_y + sum of p_k^2, so two columns of the
    records are enough.

    Args:
        log_p_label: Log probability of the true class in nats, shape [N].
        sum_p2: Sum over classes of the squared probabilities, shape [N].

    Returns:
        Float64 [N] in [0, 2].

    Example:
        >>> import torch
        >>> brier_scores(torch.tensor([0.0, -torch.inf]), torch.tensor([1.0, 1.0])).tolist()
        [0.0, 2.0]
    """
    require_columns(log_p_label=log_p_label, sum_p2=sum_p2)
    scores = 1 - 2 * log_p_label.double().exp() + sum_p2.double()
    return scores.clamp(min=0.0)  # both columns are rounded: a certain hit may come out at -6e-8


def brier_score(log_p_label: Tensor, sum_p2: Tensor) -> float:
    """Mean squared distance of the predicted probabilities from the truth, over all classes.

    Args:
        log_p_label: Log probability of the true class in nats, shape [N].
        sum_p2: Sum over classes of the squared probabilities, shape [N].

    Returns:
        In [0, 2], lower is better: the sum over classes, not half of it nor its mean. A uniform
        prediction of C classes has 1 - 1/C.

    Example:
        >>> import torch
        >>> round(brier_score(torch.tensor([0.1]).log(), torch.tensor([0.1])), 6)
        0.9

    Reference:
        Brier, Verification of forecasts expressed in terms of probability (1950).
    """
    return brier_scores(log_p_label, sum_p2).mean().item()
