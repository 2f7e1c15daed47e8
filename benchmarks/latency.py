"""How much faster a network gets on one thread, beside how many multiplications it loses.

ResNet-18 with random weights, 224 px, one image, half of the filters of each layer. Each runtime is
compared with itself: process CPU time of interleaved rounds, A B B A, in one process. Integers are
fast where the processor has instructions for them (VNNI, AMX); its flags are printed first.

    python benchmarks/latency.py

    rounds=20         interleaved rounds of each pair
    size=224          pixels
    network=resnet18  of timm; cifar_resnet20 is ours, 32 px
    openvino=auto     auto: where it is installed; false: without it
"""

import copy
import importlib.util
import logging
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.command import cpu_seconds, options_of, say  # noqa: E402

DEFAULTS = {"rounds": "20", "size": "224", "network": "resnet18", "openvino": "auto"}
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16")
CALIBRATION_IMAGES = 32


def main() -> None:
    """Print every ratio."""
    options = options_of(__doc__, DEFAULTS)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    bench = Bench(options["network"], int(options["size"]))
    rounds, vnni = int(options["rounds"]), {"avx512_vnni", "avx_vnni"} & set(flags())
    say(f"{options['network']}, {options['size']} px, batch 1, one thread, {rounds} rounds")
    say(f"processor: {processor()}; flags: {' '.join(flags()) or 'none of those asked for'}")
    macs = bench.macs["whole"] / bench.macs["half"]
    say(f"MACs {bench.macs['whole']} -> {bench.macs['half']}: {macs:.2f}x fewer")
    eager, half, zeros = (bench.eager(name) for name in ("whole", "half", "zeros"))
    pair("masks alone, eager", eager, zeros, rounds, "expected 1.0x")
    pair("removal, eager", eager, half, rounds, "aim >= 80 % of the MAC ratio", macs)
    floats, half_floats = (bench.onnx(name) for name in ("whole", "half"))
    name = "removal, onnxruntime"
    pair(name, floats, half_floats, rounds, "aim >= 90 % of the MAC ratio", macs)
    integers, both = (bench.onnx(name, integers=True) for name in ("whole", "half"))
    told = "" if vnni else "; this processor has no VNNI"
    pair("int8, onnxruntime", floats, integers, rounds, f"aim >= 2.4x with VNNI{told}")
    name = "removal and int8, onnxruntime"
    pair(name, floats, both, rounds, f"aim >= 7x with VNNI{told}")
    pair("onnxruntime, same weights", eager, floats, rounds, "no compression")
    if options["openvino"] == "auto" and importlib.util.find_spec("openvino"):
        pair("removal, openvino", bench.openvino("whole"), bench.openvino("half"), rounds, "", macs)
    sizes = {kind: bench.bytes[kind] for kind in ("floats", "integers")}
    share = sizes["integers"] / sizes["floats"]
    say(f"file of int8 / file of floats: {share:.3f} of {sizes['floats']} bytes (aim <= 0.30)")


class Bench:
    """One network, whole, with half of its filters, and with these filters zero."""

    def __init__(self, network: str, size: int) -> None:
        import torch

        from compressors.cost import count_macs
        from compressors.pruning.filters import L1Filter
        from models.edits import mask, perform

        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.images = torch.rand(1, 3, size, size)
        whole = built(network)
        edits = L1Filter(sparsity=0.5).plan(whole, self.images).edits
        half, zeros = copy.deepcopy(whole), copy.deepcopy(whole)
        perform(half, edits)
        mask(zeros, edits)
        self.models = {"whole": whole, "half": half, "zeros": zeros}
        self.macs = {n: count_macs(m, self.images) for n, m in self.models.items()}
        self.bytes: dict[str, int] = {}

    def eager(self, name: str) -> Callable[[], Any]:
        """Run by torch."""
        return self._runner(self.models[name])

    def onnx(self, name: str, *, integers: bool = False) -> Callable[[], Any]:
        """Run by ONNX Runtime."""
        from compressors.deploy.ort import Ort
        from compressors.quantization.int8 import Int8Static

        recipe = Int8Static(samples=CALIBRATION_IMAGES) if integers else Ort()
        model = self._deployed(recipe, name)
        kind = "integers" if integers else "floats"
        self.bytes.setdefault(kind, model.session.path.stat().st_size)
        return self._runner(model)

    def openvino(self, name: str) -> Callable[[], Any]:
        """Run by OpenVINO."""
        from compressors.deploy.openvino import OpenVino

        return self._runner(self._deployed(OpenVino(), name))

    def _deployed(self, recipe: Any, name: str) -> Any:
        from compressors.resources import Resources

        given = Resources(batches=self._batches, score=_unused, train=_unused)
        return recipe.plan(self.models[name], self.images, given).model

    def _batches(self, count: int) -> Iterator[tuple[Any, Any]]:
        """Random images: what is timed does not depend on what they show."""
        import torch

        generator = torch.Generator().manual_seed(0)
        for _ in range(count):
            yield torch.rand(self.images.shape, generator=generator), torch.zeros(1).long()

    def _runner(self, model: Any) -> Callable[[], Any]:
        import torch

        def run() -> Any:
            with torch.inference_mode():
                return model(self.images)

        return run


def built(network: str) -> Any:
    """A classifier with random weights."""
    from models.small.resnet_cifar import CifarResNet
    from models.timm_model import TimmModel

    if network.startswith("cifar_resnet"):
        return CifarResNet(int(network.removeprefix("cifar_resnet"))).eval()
    return TimmModel(network, pretrained=False).eval()


def pair(
    name: str,
    before: Callable[[], Any],
    after: Callable[[], Any],
    rounds: int,
    aim: str,
    macs: float | None = None,
) -> None:
    """Time two in turns and print how much faster the second is."""
    before(), after()  # warm-up: first calls choose algorithms
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        first, last = cpu_seconds(before), (cpu_seconds(after), cpu_seconds(after))
        times[0].append(first + cpu_seconds(before))
        times[1].append(sum(last))
    minima = min(times[0]) / min(times[1])
    medians = statistics.median(times[0]) / statistics.median(times[1])
    ms = [500 * statistics.median(one) for one in times]
    share = f", {100 * medians / macs:.0f} % of the MAC ratio" if macs else ""
    told = f" ({aim})" if aim else ""
    numbers = f"{minima:.2f}x minima, {medians:.2f}x medians{share}"
    say(f"{name}: {ms[0]:.1f} -> {ms[1]:.1f} ms, {numbers}{told}")


def flags() -> list[str]:
    """Instructions of the processor that matter here."""
    return [flag for flag in FLAGS if flag in cpu_info("flags").split()]


def processor() -> str:
    """Its name."""
    return cpu_info("model name") or "unknown"


def cpu_info(field: str) -> str:
    """A field of /proc/cpuinfo, empty where there is none."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def _unused(*_: object, **__: object) -> Any:
    raise AssertionError("nothing is scored or trained here")


if __name__ == "__main__":
    main()
