"""How fast the harness looks at images on a GPU, beside a bare loop over the same model.

ResNet-50 with random weights, 224 px, bfloat16, channels last, run as it is and by torch.compile.
The bare loop and the harness are given images that lie on the device; what the harness adds is its
columns, its logits and its files. Then the harness reads from a file of pixels, and from JPEGs.

    python benchmarks/gpu.py

    device=cuda       cpu runs the same code, for a look at it
    images=8192       of a pass over the device
    files=2048        JPEGs, 500 x 375
    batch_size=256    of every forward pass
    network=resnet50  of timm
    size=224          pixels
    workers=8         processes that decode
    rounds=3          interleaved; ratios are of the fastest
    compiled=both     true, false
"""

import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.command import options_of, say  # noqa: E402

DEFAULTS = {
    "device": "cuda",
    "images": "8192",
    "files": "2048",
    "batch_size": "256",
    "network": "resnet50",
    "size": "224",
    "workers": "8",
    "rounds": "3",
    "compiled": "both",
}
COMPILED = {"both": (False, True), "true": (True,), "false": (False,)}
CLASSES = 1000
JPEG_SIZE, JPEG_QUALITY = (500, 375), 90


def main() -> None:
    """Print every rate."""
    options = options_of(__doc__, DEFAULTS)
    if options["compiled"] not in COMPILED:
        sys.exit(__doc__)
    import torch

    if options["device"] == "cuda" and not torch.cuda.is_available():
        say("no GPU is visible: skipped; device=cpu images=16 files=16 runs the same code slowly")
        return
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if options["device"] == "cuda":
        say(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for compiled in COMPILED[options["compiled"]]:
        with tempfile.TemporaryDirectory() as folder:
            Bench(options, Path(folder), compiled=compiled).run()


class Bench:
    """One model, looked at in three ways."""

    def __init__(self, options: dict[str, str], folder: Path, *, compiled: bool) -> None:
        import torch

        from models.timm_model import TimmModel

        self.options, self.folder, self.compiled = options, folder, compiled
        self.batch_size, self.rounds = int(options["batch_size"]), int(options["rounds"])
        self.device = torch.device(options["device"])
        torch.manual_seed(0)
        model = TimmModel(options["network"], pretrained=False, dtype="bfloat16", compile=compiled)
        self.model = model.eval().to(self.device, memory_format=torch.channels_last)
        self.passes = 0

    def run(self) -> None:
        """Print what each way gives."""
        kind = "compiled" if self.compiled else "eager"
        options, count = self.options, int(self.options["images"])
        resident = Resident(count, int(options["size"]), self.batch_size, self.device)
        contestants: list[Callable[[], Any]] = [
            lambda: self.bare(resident),
            lambda: self.harness(resident, count),
        ]
        bare, harness = (count / seconds for seconds in self.fastest(contestants))
        say(f"{options['network']}, {kind}, {options['size']} px, batches of {self.batch_size}")
        say(f"  bare loop, images on the device: {bare:.0f} images/s")
        say(f"  harness, the same images:        {harness:.0f} images/s")
        say(f"  harness / bare loop: {harness / bare:.3f} (aim >= 0.97)")
        self.from_disk(bare)

    def from_disk(self, bare: float) -> None:
        """The same pass from a file of pixels, and from JPEGs."""
        count, workers = int(self.options["files"]), int(self.options["workers"])
        root = self.folder / "images"
        if not root.exists():
            write_jpegs(root, count)
        cached, decoded = (self.images(root, cache=cache) for cache in (True, False))
        started = time.perf_counter()
        pixels = cached.dataset("test")
        filled = time.perf_counter() - started
        files = decoded.dataset("test")
        contestants: list[Callable[[], Any]] = [
            lambda: self.harness(pixels, count, workers),
            lambda: self.harness(files, count, workers),
        ]
        from_pixels, from_jpegs = (count / seconds for seconds in self.fastest(contestants))
        for name, rate in (("file of pixels", from_pixels), ("JPEGs", from_jpegs)):
            share = f"{rate / bare:.3f} of the bare loop"
            say(f"  harness, from {name}: {rate:.0f} images/s, {share}, {workers} workers")
        say(f"  the file of pixels was made in {filled:.1f} s, once")

    def bare(self, images: Any) -> int:
        """The loop people write: predictions that are right, counted on the device."""
        import torch

        right = torch.zeros((), dtype=torch.int64, device=self.device)
        with torch.inference_mode():
            for start in range(0, len(images), self.batch_size):
                batch = images.pixels[: min(self.batch_size, len(images) - start)]
                right += self.model(batch).argmax(dim=1).eq(0).sum()
        return int(right)

    def harness(self, dataset: Any, count: int, workers: int = 0) -> None:
        """A pass into a new record: columns, logits, files."""
        import numpy as np

        from recording.loop import Look
        from recording.passes import Job, run_here

        self.passes += 1
        job = Job(
            root=self.folder / "store",
            key=f"pass{self.passes}",
            manifest={"classes": CLASSES},
            look=Look(
                model=self.model,
                view=lambda images, ids: images,
                label_space=None,
                classes=CLASSES,
                batch_size=self.batch_size,
            ),
            dataset=dataset,
            ids=np.arange(count),
            num_workers=workers,
            parts=frozenset({"logits"}),
            threads=None,
            max_decode_errors=0,
            title="benchmark",
        )
        run_here(job)

    def images(self, root: Path, *, cache: bool) -> Any:
        """A folder of JPEGs as a datamodule."""
        from datamodules.folder import ImageFolder

        data = ImageFolder(
            root=str(root), num_workers=int(self.options["workers"]), cache_pixels=cache
        )
        size = int(self.options["size"])
        data.preprocessing = replace(self.model.preprocessing, size=(size, size))
        return data

    def fastest(self, contestants: Sequence[Callable[[], Any]]) -> list[float]:
        """Seconds of each, of interleaved rounds; what comes first pays for nobody."""
        for run in contestants:
            run()
        times = [[seconds(run, self.device) for run in contestants] for _ in range(self.rounds)]
        return [min(column) for column in zip(*times, strict=True)]


class Resident:
    """A dataset whose batches lie on the device already: one batch, given again and again."""

    def __init__(self, count: int, size: int, batch_size: int, device: Any) -> None:
        import torch

        self.count = count
        generator = torch.Generator().manual_seed(0)
        pixels = torch.rand(min(count, batch_size), 3, size, size, generator=generator)
        self.pixels = pixels.to(device, memory_format=torch.channels_last)
        self.labels = torch.zeros(len(self.pixels), dtype=torch.int64)

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, positions: list[int]) -> tuple[Any, Any]:
        """As many images as are asked for."""
        return self.pixels[: len(positions)], self.labels[: len(positions)]


def write_jpegs(root: Path, count: int) -> None:
    """Smooth pictures, which take as long to decode as photographs do."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(count):
        folder = root / f"class_{number % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        picture = np.asarray(coarse.resize(JPEG_SIZE, Image.Resampling.BICUBIC), dtype=np.int16)
        grain = random.integers(-12, 13, picture.shape, dtype=np.int16)
        image = Image.fromarray((picture + grain).clip(0, 255).astype(np.uint8))
        image.save(folder / f"{number:06d}.jpg", quality=JPEG_QUALITY)


def seconds(run: Callable[[], Any], device: Any) -> float:
    """On the clock, until the device has done all of it."""
    import torch

    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
