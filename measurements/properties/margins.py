"""How far decisions are from other ones."""

import torch
from torch import Tensor, nn

from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import metric_key
from measurements.functional.margins import boundary_distances, label_margins
from measurements.measurement import MeanMeasurement, Measurement, ends, mean_interval
from models.examples import example_images
from models.fingerprint import baked_tensors
from recording.loop import evaluating
from recording.records import Records

TOLERANCE = 1e-3
"""Relative to the largest logit; half precision rounds by about as much."""


class LogitMargin(MeanMeasurement):
    """By how much the label's logit leads the best other one; grows when all logits are scaled.

    From logits as they are stored, in half precision. `margin_negative` is the share of samples
    on which another class leads: the error, without what is tied. A row with a logit that is not
    finite has the margin 0 and is one of them.

    Reference:
        Crammer & Singer, On the algorithmic implementation of multiclass kernel-based vector
        machines (2001).
    """

    kind = "property"
    needs = frozenset({"records", "logits"})
    unit, better, version = "logits", "higher", 2

    def per_sample(self, records: Records) -> dict[str, Tensor]:
        """Margin, and whether it is below 0."""
        margins = label_margins(records.logits, records.label)
        return {"margin": margins, "margin_negative": (margins < 0) | ~records.finite}

    def estimate(self, records: Records) -> dict[str, Estimate]:
        """Values, of which one is a share."""
        return _with_share(super().estimate(records))

    def difference(self, records: Records, baseline: Records) -> dict[str, Estimate]:
        """Change of the values."""
        return _with_share(super().difference(records, baseline))


class BoundaryDistance(Measurement):
    """Distance of the features to the nearest place where another class leads; exact.

    For a linear classifier head: the margin to each other class over the distance of the two
    classes' weights, the least of them. Negative where another class leads already. Unlike the
    margin it does not grow when head and logits are scaled, but it does with the features.

    Reference:
        Elsayed et al., Large margin deep networks for classification (2018).
    """

    kind = "property"
    needs = frozenset({"records", "logits", "weights"})
    unit, better, version = "features", "higher", 1

    def measure(self) -> dict[str, Estimate]:
        """Mean over samples with a bootstrap interval."""
        head = self._head()
        results = {}
        for name in self.datamodule_names:
            if self.recorder.datamodule(name, self.model).label_space is not None:
                raise NotApplicable(f"the classes of {name} are not those of the classifier head")
            records = self.records(name)
            distances = boundary_distances(records.logits, records.label, head=head)
            results[metric_key(name, self.split, "boundary_distance")] = self.value(
                distances.mean().item(), n=len(records), **ends(mean_interval(distances))
            )
        return results

    def _head(self) -> Tensor:
        """Effective weights [C, D] of a last layer that is linear.

        Raises:
            NotApplicable: It is not, or two classes have the same weights.
        """
        if not isinstance(self.model.head, nn.Linear):
            kind = type(self.model.head).__name__
            raise NotApplicable(f"the classifier head is a {kind}, not a linear layer")
        tensors = baked_tensors(self.model)
        weight = tensors[f"{self.model.head_name}.weight"].float()
        bias = tensors.get(f"{self.model.head_name}.bias")
        with evaluating(self.model):
            logits, features = self.model.logits_and_features(example_images(self.model, 2))
            given = nn.functional.linear(features, weight, None if bias is None else bias.float())
        if not logits.isfinite().all():
            raise NotApplicable("the model gives no finite logits")
        if not torch.allclose(given, logits, rtol=0, atol=TOLERANCE * float(logits.abs().max())):
            raise NotApplicable("the logits are not what the classifier head makes of its input")
        if len(weight.unique(dim=0)) < len(weight):
            raise NotApplicable("two classes have the same weights: no boundary lies between them")
        return weight.cpu()


def _with_share(estimates: dict[str, Estimate]) -> dict[str, Estimate]:
    share = estimates["margin_negative"]
    share.unit, share.better = "fraction", "lower"
    return estimates
