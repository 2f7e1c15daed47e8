"""What makes cells anew."""

from pathlib import Path

import pytest

from measurements import definition
from measurements.benefits.adversarial import BlackBox
from measurements.measurement import Measurement
from measurements.properties.activations import Activations
from measurements.properties.sparsity_patterns import LayerSparsity


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        (BlackBox, {"adversarial.py", "attacked.py", "intervals.py"}),
        (Activations, {"activations.py", "activation.py", "groups.py", "layers.py"}),
        (LayerSparsity, {"sparsity_patterns.py", "sparsity.py", "layers.py"}),
    ],
)
def test_every_file_that_makes_numbers_is_in_a_definition(
    kind: type[Measurement], files: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(definition, "file_digest", lambda path: Path(path).name)
    assert files <= set(definition._files(kind))
