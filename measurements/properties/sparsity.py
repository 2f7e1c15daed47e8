"""How much of a model is zero."""

from core.errors import NotApplicable
from core.estimate import Estimate
from measurements.functional.sparsity import zeros_share
from measurements.measurement import ModelMeasurement
from models.fingerprint import baked_tensors


class WeightSparsity(ModelMeasurement):
    """Share of zeros among the effective weights.

    A mask that is still attached to a layer leaves the parameter itself dense, so weights are
    looked at as the forward pass uses them. Removed channels are gone and count nowhere.
    """

    kind = "property"
    unit, better, version = "fraction", "", 1

    def measure(self) -> dict[str, Estimate]:
        """Zeros of all weights of two and more dimensions together: biases and norms are not."""
        weights = {
            name: tensor
            for name, tensor in baked_tensors(self.model).items()
            if tensor.ndim > 1 and tensor.is_floating_point() and name.startswith("backbone.")
        }
        if not weights:
            raise NotApplicable("the model has no weight tensor that could be looked at")
        found = zeros_share(weights)
        return {
            self.key("weight_sparsity"): self.value(found.share, n=found.total),
        }
