"""Integer models of 8 bits, run by the runtime they are made for."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, get_args

import numpy as np
from rich.console import Console
from rich.progress import track

from compressors.base import Decision, Task
from compressors.deployment import Deployment, classifier_of, deployed
from compressors.quantization.onnx_int8 import METHODS, OnnxStatic, write_dynamic
from compressors.quantization.openvino_int8 import OpenVinoStatic
from compressors.quantization.share import share_of
from core.errors import ConfigError, IncompatibleModel, unknown
from models.base_model import ClassifierModule
from models.deployed import DeployedClassifier

log = logging.getLogger(__name__)

SATURATES = (
    "weights of 8 bits: on processors without VNNI sums of products saturate and accuracy falls; "
    "measure it on the processor that will run it"
)

Backend = Literal["onnxruntime", "openvino"]


class Maker(Protocol):
    """Writes the model with some of its layers as integers."""

    nodes: dict[str, list[str]]

    def write(self, path: Path, layers: list[str]) -> None:
        """Write the files."""


class Int8Static(Deployment):
    """Calibrates 8-bit integers on data and runs them; the normalisation stays in the graph.

    Weights have a scale per output channel, activations one that was measured on `samples`.
    Layers that are excluded stay in floats.

    Reference:
        Jacob et al., Quantization and training of neural networks for efficient
        integer-arithmetic-only inference, CVPR 2018.

    Args:
        backend: `onnxruntime` (QDQ graph of unsigned activations, signed weights) or `openvino`.
        samples: Of the tuning data, to calibrate on.
        calibration: `minmax`, `entropy` or `percentile`; OpenVINO knows the first alone.
        reduce_range: Weights of 7 bits. With 8, the sums saturate on processors without VNNI.
        skip_sensitive: `auto` leaves the layers in floats that cost the most accuracy, one after
            the other, until the loss is at most `max_loss`; None leaves none.
        max_loss: Accuracy on the score part that may be lost, in [0, 1).
        **selection: Those of Compressor.
    """

    needs: ClassVar = frozenset({"batches", "score"})

    def __init__(
        self,
        *,
        backend: Backend = "onnxruntime",
        samples: int = 512,
        calibration: str = "minmax",
        reduce_range: bool = True,
        skip_sensitive: Literal["auto"] | None = None,
        max_loss: float = 0.01,
        **selection: Any,
    ) -> None:
        super().__init__(**selection)
        self.chosen: dict[str, Any] = {
            "backend": backend,
            "samples": samples,
            "calibration": calibration,
            "reduce_range": reduce_range,
            "skip_sensitive": skip_sensitive,
            "max_loss": max_loss,
        }
        faults = list(_faults(**self.chosen))
        if faults:
            raise ConfigError(faults)
        self.runtime = backend

    def options(self) -> dict[str, Any]:
        """All that decides the result beside the layers."""
        return self.chosen

    def decide(self, task: Task) -> Decision:
        """Calibrate once, then quantize all layers, or those that bear it."""
        model = classifier_of(task)
        maker = self._maker(task, model)
        layers = [f"{task.prefix}{name}" for name in task.selection.layers]
        lost = [name for name in layers if name not in maker.nodes]
        layers = [name for name in layers if name in maker.nodes]
        if not layers:
            raise IncompatibleModel(f"no node of the exported graph belongs to {', '.join(lost)}")

        def make(names: list[str]) -> DeployedClassifier:
            return deployed(
                self.chosen["backend"],
                model,
                task.example_inputs,
                lambda path: maker.write(path, names),
            )

        notes = [f"{', '.join(lost)}: not in the exported graph"] if lost else []
        notes += [] if self.chosen["reduce_range"] else [SATURATES]
        made = make(layers)
        if self.chosen["skip_sensitive"] is None:
            return Decision(model=made, notes=notes, achieved={"quantized_layers": len(layers)})
        search = _Search(model, make, task.given.score, self.chosen["max_loss"])
        found = search.run(made, layers)
        achieved = {
            "quantized_layers": len(layers) - len(found.skipped),
            "score_loss": found.loss,
            "scored": search.scored,
        }
        notes += [found.sentence(task.prefix), *task.given.said]
        return Decision(model=found.model, notes=notes, achieved=achieved)

    def _maker(self, task: Task, model: ClassifierModule) -> Maker:
        layers = [f"{task.prefix}{name}" for name in task.selection.layers]
        images = _images(task, self.chosen["samples"])
        reduce_range = self.chosen["reduce_range"]
        if self.chosen["backend"] == "openvino":
            return OpenVinoStatic(model, layers, images, reduce_range=reduce_range)
        return OnnxStatic(
            model,
            layers,
            images,
            calibration=self.chosen["calibration"],
            reduce_range=reduce_range,
        )


class Int8Dynamic(Deployment):
    """Linear layers multiply 8-bit integers; activations are scaled anew in each batch.

    Needs no data. Convolutions stay in floats: of a convolutional network only the head changes.

    Args:
        **selection: Those of Compressor.
    """

    treatable: ClassVar = ("Linear",)
    default_types: ClassVar = treatable
    runtime = "onnxruntime"

    def decide(self, task: Task) -> Decision:
        """Quantize the linear layers of the exported graph."""
        model = classifier_of(task)
        layers = [f"{task.prefix}{name}" for name in task.selection.layers]
        done: list[str] = []
        made = deployed(
            self.runtime,
            model,
            task.example_inputs,
            lambda path: done.extend(write_dynamic(model, path, layers)),
        )
        if not done:
            raise IncompatibleModel(f"no node of the exported graph belongs to {', '.join(layers)}")
        names = [name.removeprefix(task.prefix) for name in done]
        note = share_of(model, names, task.prefix)
        return Decision(model=made, notes=[note], achieved={"quantized_layers": len(done)})


@dataclass
class _Found:
    """The model that loses little enough."""

    model: DeployedClassifier
    loss: float
    skipped: list[str] = field(default_factory=list)

    def sentence(self, prefix: str) -> str:
        """What was left in floats."""
        names = ", ".join(name.removeprefix(prefix) for name in self.skipped)
        left = f"{names} stay in floats" if names else "no layer has to stay in floats"
        return f"{left}: the loss on the score part is {self.loss:.4f}"


class _Search:
    """Leaves in floats what costs the most accuracy when it is quantized alone."""

    def __init__(
        self,
        model: ClassifierModule,
        make: Callable[[list[str]], DeployedClassifier],
        score: Callable[[Any], float],
        limit: float,
    ) -> None:
        self.make, self.score, self.limit = make, score, limit
        self.scored = 1
        self.reference = score(model)

    def run(self, made: DeployedClassifier, layers: list[str]) -> _Found:
        """The first of growing numbers of skipped layers whose loss is within the limit."""
        started = time.perf_counter()
        loss = self._loss(made)
        if loss <= self.limit:
            return _Found(made, loss)
        seconds = (time.perf_counter() - started) * len(layers)
        log.warning(
            "all layers as integers lose %.4f, at most %g is allowed: scoring %d layers alone, "
            "about %.0f s, then as many at most to choose from",
            loss,
            self.limit,
            len(layers),
            seconds,
        )
        alone = {name: self._loss(self.make([name])) for name in _shown(layers)}
        worst = sorted(layers, key=lambda name: -alone[name])
        for count in range(1, len(layers)):
            skipped = worst[:count]
            made = self.make([name for name in layers if name not in skipped])
            loss = self._loss(made)
            if loss <= self.limit:
                return _Found(made, loss, skipped)
        raise IncompatibleModel(
            f"one layer as integers, the others in floats, still loses {loss:.4f}: more than "
            f"max_loss={self.limit}"
        )

    def _loss(self, made: DeployedClassifier) -> float:
        self.scored += 1
        return self.reference - self.score(made)


def _faults(
    *,
    backend: Any,
    samples: Any,
    calibration: Any,
    reduce_range: Any,
    skip_sensitive: Any,
    max_loss: Any,
) -> Iterator[str]:
    if backend not in get_args(Backend):
        yield unknown("compressor.backend", backend, get_args(Backend))
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        yield f"compressor.samples is an int of at least 1, got {samples!r}"
    if calibration not in METHODS:
        yield unknown("compressor.calibration", calibration, METHODS)
    elif backend == "openvino" and calibration != "minmax":
        yield f"compressor.calibration={calibration}: OpenVINO knows minmax alone"
    if not isinstance(reduce_range, bool):
        yield f"compressor.reduce_range is true or false, got {reduce_range!r}"
    if skip_sensitive not in (None, "auto"):
        yield f"compressor.skip_sensitive is auto or null, got {skip_sensitive!r}"
    if isinstance(max_loss, bool) or not isinstance(max_loss, int | float) or not 0 <= max_loss < 1:
        yield f"compressor.max_loss is a number in [0, 1), got {max_loss!r}"


def _images(task: Task, samples: int) -> Iterator[np.ndarray]:
    for images, _ in task.given.batches(samples):
        yield images.cpu().numpy()


def _shown(names: list[str]) -> Iterable[str]:
    console = Console(stderr=True)
    return track(names, "each layer alone", console=console, disable=not console.is_terminal)
