"""How much layers can stretch what they are given."""

import math
from collections.abc import Iterator, Sequence

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from core.errors import NotApplicable
from core.estimate import Estimate
from measurements.functional.spectral import conv_spectral_norm, linear_spectral_norm
from measurements.layers import layer_labels
from measurements.measurement import ModelMeasurement
from models.baking import baked
from models.base_model import ClassifierModule
from models.examples import example_images
from models.quantized import unpacked
from recording.loop import evaluating

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
SEED = 0


class SpectralNorms(ModelMeasurement):
    """Largest singular value of each convolution and linear layer, at the model's own resolution.

    That of the operator on whole feature maps, not of the reshaped kernel. Linear layers are
    exact. `spectral_norm_log10_product` sums the decimal logarithms over all layers: a bound of the
    Lipschitz constant for a plain chain of these layers and 1-Lipschitz activations. Norms and
    attention are not in it, and across residual sums it bounds nothing. Where a layer is all zero
    the product is 0 and has no logarithm: it is left out.

    Args:
        iterations: Most applications of a convolution.
        tolerance: On the residual of the squared value; the value is closer by about the square.

    Reference:
        Sedghi et al., The singular values of convolutional layers (2019); Farnia et al.,
        Generalizable adversarial training via spectral normalization (2019).
    """

    kind = "property"
    unit, better, version = "", "lower", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        iterations: int = 200,
        tolerance: float = 0.01,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.iterations, self.tolerance = iterations, tolerance

    def measure(self) -> dict[str, Estimate]:
        """One value a layer, the largest, and the logarithm of the product."""
        norms = dict(self._norms())
        if not norms:
            raise NotApplicable("the model has no convolution or linear layer that torch can see")
        labels = layer_labels(norms)
        found = {f"spectral_norm_{labels[name]}": value for name, value in norms.items()}
        found["spectral_norm_largest"] = max(norms.values())
        if all(norms.values()):
            found["spectral_norm_log10_product"] = sum(map(math.log10, norms.values()))
        return {self.key(name): self.value(value) for name, value in found.items()}

    def _norms(self) -> Iterator[tuple[str, float]]:
        model = baked(unpacked(self.model))
        assert isinstance(model, ClassifierModule), "baking keeps the class"
        for name, size in _input_sizes(model).items():
            layer = model.get_submodule(name)
            if not torch.as_tensor(layer.weight).isfinite().all():
                raise NotApplicable(f"{name} has weights that are not finite")
            if isinstance(layer, nn.Linear):
                yield name, linear_spectral_norm(layer.weight)
            elif isinstance(layer, CONVOLUTIONS):
                found = conv_spectral_norm(
                    layer,
                    size,
                    generator=torch.Generator().manual_seed(SEED),
                    iterations=self.iterations,
                    tolerance=self.tolerance,
                )
                yield name, found.value


def _input_sizes(model: ClassifierModule) -> dict[str, tuple[int, ...]]:
    """Layer -> height and width of what it is given, in the order of their first use."""
    sizes: dict[str, tuple[int, ...]] = {}

    def note(name: str, images: Tensor) -> None:
        sizes.setdefault(name, tuple(images.shape[2:]))

    hooks = [
        part.register_forward_pre_hook(lambda _, inputs, name=name: note(name, inputs[0]))
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    ]
    try:
        with evaluating(model):
            model(example_images(model))
    finally:
        for hook in hooks:
            hook.remove()
    return sizes
