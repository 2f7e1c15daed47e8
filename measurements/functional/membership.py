"""Membership inference: can the loss tell what a model was trained on?"""

from torch import Tensor

from measurements.functional.checks import require_columns


def membership_advantage(trained: Tensor, others: Tensor) -> float:
    """Share of the trained samples less that of the others with at most the mean training loss.

    Args:
        trained: Losses of samples the model was trained on, shape [N], finite.
        others: Losses of samples it was not, shape [M].

    Returns:
        In [-1, 1]; lower is better; 0 where the loss gives nothing away.

    Example:
        >>> import torch
        >>> membership_advantage(torch.tensor([0.0, 0.0, 3.0]), torch.tensor([0.5, 2.0]))
        0.16666666666666663

    Reference:
        Yeom et al., Privacy risk in machine learning (2018), experiment 1 with adversary 1.
    """
    require_columns(trained=trained)
    require_columns(others=others)
    bound = trained.double().mean()
    inside, outside = (one.double().le(bound).double().mean() for one in (trained, others))
    return (inside - outside).item()
