"""Networks that must work: half of the filters of each, its linear layers included.

Random weights, one image of the size the network is made for. Each network is compressed in a
process of its own, with a limit of processor time: decided, tried out against the network whose
filters are zero, counted and timed; --checked stores and exports it too, which every compression
does and which takes most of its time. What is measured stays: the same code measures a network
once, and a run that was stopped goes on. The table goes into docs/compressors.md.
"""

import argparse
import copy
import json
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PAGE = ROOT / "docs" / "compressors.md"
MARKERS = ("<!-- zoo: made by benchmarks/zoo.py -->", "<!-- end of zoo -->")
SPARSITY = 0.5
LIMIT_SECONDS = 300

NETWORKS = {
    "ResNet-18": "torchvision resnet18",
    "ResNet-50": "torchvision resnet50",
    "ResNet-56": "cifar 56",
    "VGG-16": "torchvision vgg16",
    "DenseNet-121": "torchvision densenet121",
    "MobileNet-V2": "torchvision mobilenet_v2",
    "MobileNet-V3": "torchvision mobilenet_v3_large",
    "MobileNet-V4": "timm mobilenetv4_conv_small",
    "EfficientNet-B0": "torchvision efficientnet_b0",
    "ResNeXt-50": "torchvision resnext50_32x4d",
    "RegNet-Y-400MF": "torchvision regnet_y_400mf",
    "ConvNeXt-T": "timm convnext_tiny",
    "ShuffleNet-V2": "torchvision shufflenet_v2_x1_0",
    "GoogLeNet": "torchvision googlenet",
    "ViT-S/16": "timm vit_small_patch16_224",
    "ViT-B/16": "torchvision vit_b_16",
    "DeiT-S": "timm deit_small_distilled_patch16_224",
    "Swin-T (timm)": "timm swin_tiny_patch4_window7_224",
    "Swin-T (torchvision)": "torchvision swin_t",
    "LeViT-128S": "timm levit_128s",
    "EfficientViT-B0": "timm efficientvit_b0",
    "EfficientViT-M0": "timm efficientvit_m0",
    "RepViT-M0.9": "timm repvit_m0_9",
}


def main() -> None:
    """Measure what is missing, and write the table."""
    options = arguments()
    if options.one:
        seconds = int(options.limit)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        sys.stdout.write(json.dumps(measured(options.one, checked=options.checked)) + "\n")
        return
    from rich.console import Console
    from rich.progress import track

    names = options.networks or list(NETWORKS)
    code = code_digest()
    folder = Path(options.results)
    said = Console(stderr=True)
    said.print(f"{len(names)} networks: 10 to 60 seconds each, of what is not measured yet")
    for name in track(names, description="networks", console=said):
        path = folder / f"{slug(name)}.json"
        if not options.again and found(path, code) is not None:
            continue
        result = in_own_process(name, options.limit, checked=options.checked)
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**result, "code": code}, indent=2) + "\n")
        said.print(row(name, result), soft_wrap=True, markup=False)
    rows = {name: found(folder / f"{slug(name)}.json", code) for name in NETWORKS}
    lines = table({name: result for name, result in rows.items() if result is not None})
    sys.stdout.write("\n".join(lines) + "\n")
    if not options.networks:
        write_between(Path(options.page), lines)


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--again", action="store_true", help="measure also what is measured")
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="CPU seconds")
    parser.add_argument("--checked", action="store_true", help="with every check")
    parser.add_argument("--results", default=str(ROOT / "results" / "zoo"), help="folder")
    parser.add_argument("--page", default=str(PAGE), help="file with the markers of the table")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = [name for name in options.networks if name not in NETWORKS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(NETWORKS)}")
    return options


def measured(name: str, *, checked: bool) -> dict[str, Any]:
    """Compress one network in this process."""
    import torch

    from compressors.pruning.filters import L1Filter
    from compressors.selfcheck import SelfCheckError
    from core.errors import IncompatibleModel

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, size = built(NETWORKS[name])
    images = torch.rand(1, 3, size, size)
    started = time.process_time()
    recipe = L1Filter(sparsity=SPARSITY, op_types=["default", "Linear"])
    try:
        if checked:
            result = recipe.compress(model, images)
            edits, notes, achieved = result.edits, result.report.notes, result.report.achieved
        else:
            decision = recipe.plan(model, images)
            edits, notes = decision.edits, decision.notes
            achieved = counted(model, edits, images)
    except (IncompatibleModel, SelfCheckError) as error:
        return {"failed": str(error)}
    narrower = [n for n, sides in edits.removed.items() if is_layer(model, n, sides)]
    return {
        "achieved": achieved,
        "removed_layers": len(narrower),
        "masked_layers": len({parameter.rpartition(".")[0] for parameter in edits.masked}),
        "notes": notes,
        "checked": checked,
        "seconds": time.process_time() - started,
    }


def counted(model: Any, edits: Any, images: Any) -> dict[str, Any]:
    """Cost before and after, as a report has it."""
    from compressors.cost import cost_of, latency_ratio
    from models.edits import perform

    model.eval()
    after = copy.deepcopy(model)
    perform(after, edits)
    sizes = {"before": cost_of(model, images).as_dict(), "after": cost_of(after, images).as_dict()}
    achieved = {f"{what}_{when}": n for when, cost in sizes.items() for what, n in cost.items()}
    return {**achieved, "latency_ratio": latency_ratio(model, after, images, seconds=2.0)}


def is_layer(model: Any, name: str, sides: Any) -> bool:
    """Whether filters of a convolution or linear layer went."""
    from compressors.tracing import LAYERS

    modules = dict(model.named_modules())
    return "out" in sides and isinstance(modules.get(name), LAYERS)


def built(spec: str) -> tuple[Any, int]:
    """A network with random weights, and the size of its images."""
    source, _, name = spec.partition(" ")
    return BUILDERS[source](name)


def of_timm(name: str) -> tuple[Any, int]:
    """Network of timm."""
    import timm

    model = timm.create_model(name, pretrained=False)
    return model, timm.data.resolve_model_data_config(model)["input_size"][-1]


def of_torchvision(name: str) -> tuple[Any, int]:
    """Network of torchvision; GoogLeNet without the heads it has for training alone."""
    import torchvision

    options = {"aux_logits": False} if name == "googlenet" else {}
    return torchvision.models.get_model(name, weights=None, **options), 224


def of_cifar(depth: str) -> tuple[Any, int]:
    """Network of ours."""
    from models.small.resnet_cifar import CifarResNet

    return CifarResNet(int(depth)), 32


BUILDERS: dict[str, Callable[[str], tuple[Any, int]]] = {
    "timm": of_timm,
    "torchvision": of_torchvision,
    "cifar": of_cifar,
}


def in_own_process(name: str, limit: float, *, checked: bool) -> dict[str, Any]:
    """What `measured` says, or why it says nothing."""
    command = [sys.executable, __file__, "--one", name, "--limit", str(limit)]
    command += ["--checked"] if checked else []
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode == -signal.SIGXCPU:
        return {"failed": f"not done after {limit:g} seconds of processor time"}
    if answer.returncode:
        last = (answer.stderr.strip().splitlines() or ["no message"])[-1]
        return {"failed": f"exit code {answer.returncode}: {last}"}
    return dict(json.loads(answer.stdout.splitlines()[-1]))


def found(path: Path, code: str) -> dict[str, Any] | None:
    """What was measured with the same code."""
    if not path.is_file():
        return None
    result = json.loads(path.read_text())
    return result if result["code"] == code else None


def code_digest() -> str:
    """Digest of what a result depends on."""
    from core.digest import digest, file_digest

    folders = ("compressors", "models", "core", "benchmarks/zoo.py")
    files = [p for f in folders for p in ([ROOT / f] if "." in f else (ROOT / f).rglob("*.py"))]
    return digest({str(path.relative_to(ROOT)): file_digest(path) for path in sorted(files)})


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of markdown."""
    head = [
        "| network | parameters | MACs | time | narrower / zeroed layers | what is in the way |",
        "|---|---|---|---|---|---|",
    ]
    return head + [row(name, result) for name, result in results.items()]


def row(name: str, result: dict[str, Any]) -> str:
    """One network."""
    if "failed" in result:
        return f"| {name} | | | | | {cell(result['failed'])} |"
    achieved = result["achieved"]
    params = f"{millions(achieved, 'params_before')} -> {millions(achieved, 'params_after')} M"
    macs = f"{millions(achieved, 'macs_before')} -> {millions(achieved, 'macs_after')} M"
    obstacles = [note for note in result["notes"] if "zero instead of removed" in note]
    layers = f"{result['removed_layers']} / {result['masked_layers']}"
    why = "; ".join(dict.fromkeys(note.partition("because ")[2] for note in obstacles))
    time_ratio = f"{achieved['latency_ratio']:.2f}"
    return f"| {name} | {params} | {macs} | {time_ratio} | {layers} | {cell(why)} |"


def millions(achieved: dict[str, Any], quantity: str) -> str:
    """A count in millions, three digits."""
    value = achieved[quantity] / 1e6
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def cell(text: str) -> str:
    """Text that does not break a table."""
    return text.replace("|", "/").replace("\n", " ")


def slug(name: str) -> str:
    """Name of a file."""
    return "".join(c if c.isalnum() else "_" for c in name.lower())


def write_between(page: Path, lines: list[str]) -> None:
    """Put the table between its markers."""
    before, opened, rest = page.read_text().partition(MARKERS[0])
    _, closed, after = rest.partition(MARKERS[1])
    if not (opened and closed):
        sys.exit(f"{page} has no markers {MARKERS[0]} and {MARKERS[1]}")
    text = "\n".join([opened, "", *lines, "", closed])
    page.write_text(before + text + after)


if __name__ == "__main__":
    main()
