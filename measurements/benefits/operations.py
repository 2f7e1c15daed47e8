"""Counted cost that sees zeros and precision: what a device could save, not what it does."""

from core.estimate import Estimate
from measurements.functional import operations
from measurements.measurement import ModelMeasurement
from models.examples import example_images


class EffectiveMacs(ModelMeasurement):
    """Multiply-accumulates of one image by weights that are not zero.

    What hardware would do that skips every zero; hardly any does. Products of two activations, as
    in attention, count in full.

    Reference:
        Blalock et al., What is the state of neural network pruning? (2020), theoretical speedup.
    """

    kind = "benefit"
    unit, better, version = "MACs", "lower", 1

    def measure(self) -> dict[str, Estimate]:
        """Count at the model's own resolution."""
        found = operations.operations(self.model, example_images(self.model))
        return {self.key("effective_macs"): self.value(operations.effective_macs(found))}


class BitOperations(ModelMeasurement):
    """Multiply-accumulates of one image times the bits of both factors; dense float32: 1024 each.

    The bits are those of the tensors that are multiplied: 16 under autocast, 32 for quantization
    that is only simulated in float32. Zeros count.

    Reference:
        Baskin et al., UNIQ: uniform noise injection for non-uniform quantization (2021).
    """

    kind = "benefit"
    unit, better, version = "bit operations", "lower", 1

    def measure(self) -> dict[str, Estimate]:
        """Count at the model's own resolution."""
        found = operations.operations(self.model, example_images(self.model))
        return {self.key("bit_operations"): self.value(operations.bit_operations(found))}
