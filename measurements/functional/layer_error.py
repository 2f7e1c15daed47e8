"""How much of a layer's output is error: signal to quantization noise."""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(kw_only=True)
class SignalToNoise:
    """10 log10(sum h0^2 / sum (h0 - h1)^2) of outputs h0 and their approximations h1, in batches.

    Energies are added over batches, so the batch size does not matter.

    Example:
        >>> import torch
        >>> found = SignalToNoise()
        >>> found.add(torch.tensor([3.0, 1.0]), approximation=torch.tensor([3.0, 0.0]))
        >>> found.decibels, found.identical
        (10.0, False)

    Reference:
        Gray & Neuhoff, Quantization (1998), with the energies of a sample.
    """

    signal: float = 0.0
    noise: float = 0.0
    count: int = 0

    def add(self, reference: Tensor, *, approximation: Tensor) -> None:
        """Take outputs of one shape, finite."""
        if reference.shape != approximation.shape:
            raise ValueError(
                "expected outputs of one shape, "
                f"got {list(reference.shape)} and {list(approximation.shape)}"
            )
        exact = reference.detach().double()
        error = exact - approximation.detach().double()
        signal, noise = exact.square().sum().item(), error.square().sum().item()
        if not math.isfinite(signal + noise):
            raise ValueError("expected finite outputs, got NaN or infinity; leave broken rows out")
        self.signal += signal
        self.noise += noise
        self.count += reference.numel()

    @property
    def identical(self) -> bool:
        """Whether there is no error at all."""
        self._require_outputs()
        return self.noise == 0

    @property
    def decibels(self) -> float | None:
        """The ratio in dB, higher is better; None where there is no error: infinity is no number.

        Raises:
            ValueError: The reference is zero everywhere, and the approximation is not.
        """
        if self.identical:
            return None
        if self.signal == 0:
            raise ValueError("expected a reference with a signal, got zeros everywhere")
        return 10 * math.log10(self.signal / self.noise)

    def _require_outputs(self) -> None:
        if self.count == 0:
            raise ValueError("no output was added: nothing to compare")


def signal_to_noise(reference: Tensor, *, approximation: Tensor) -> SignalToNoise:
    """Signal to noise of outputs that are there at once.

    Args:
        reference: Outputs of the baseline's layer, any shape, finite.
        approximation: Outputs of the compressed layer for the same inputs, same shape.

    Example:
        >>> import torch
        >>> signal_to_noise(torch.ones(4), approximation=torch.ones(4)).decibels is None
        True
    """
    found = SignalToNoise()
    found.add(reference, approximation=approximation)
    return found
