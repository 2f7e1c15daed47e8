"""ImageNet-C: the validation images of ImageNet, and their published corruptions as views."""

from pathlib import Path
from typing import Any, ClassVar

from core.names import Split
from datamodules.imagenet import ImageNet
from datamodules.stored_views import StoredViews
from datamodules.views.view import SEVERITIES

GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}
"""The published archives; unpacked in folders of their own or all in one."""


class ImageNetC(StoredViews, ImageNet):
    """50,000 images under 19 corruptions at five severities, 224 x 224 pixels.

    `clean` is the validation set of ImageNet; `fog_3` and its like are the folders `fog/3`.

    Args:
        imagenet_root: Folder of ImageNet.
        options: As in ImageDataModule.
    """

    library_name = "imagenet_c"
    homepage: ClassVar[str] = "https://zenodo.org/records/2235448"
    published: ClassVar[dict[Split, tuple[str, ...]]] = {"test": ImageNet.published["test"]}
    kinds: ClassVar[tuple[str, ...]] = tuple(kind for kinds in GROUPS.values() for kind in kinds)

    def __init__(self, *, imagenet_root: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.imagenet_root = imagenet_root

    @property
    def folder(self) -> Path:
        """Of the clean images."""
        return Path(self.imagenet_root).expanduser()

    def where_to_get(self) -> str:
        """Where the clean images are from."""
        key = f"dataset_library.{self.library_name}.imagenet_root"
        return f"get it from {ImageNet.homepage} and set {key}=<its folder>"

    def missing(self, split: Split) -> list[str]:
        """Clean images, and a root without any corruption."""
        faults = super().missing(split)
        folders = (self.stored(kind, number).folder for kind in self.kinds for number in SEVERITIES)
        if not any(folder.is_dir() for folder in folders):
            root = Path(self.root).expanduser()
            key = f"dataset_library.{self.library_name}.root"
            faults.insert(
                0,
                f"{self.library_name} {split}: expected folders <corruption>/<severity> in {root}, "
                f"found none; get them from {self.homepage} and set {key}=<their folder>",
            )
        return faults

    def stored(self, kind: str, severity: int) -> "CorruptedImageNet":
        """One severity of one folder."""
        return CorruptedImageNet(kind=kind, severity=severity, root=self.root, **self.own_options())


class CorruptedImageNet(ImageNet):
    """One corruption of ImageNet-C at one severity; ImageNetC makes them.

    Args:
        kind: Name of the folder, `fog`.
        severity: 1 to 5: the folder in it.
        options: As in ImageDataModule.
    """

    library_name = ImageNetC.library_name
    homepage: ClassVar[str] = ImageNetC.homepage
    published: ClassVar[dict[Split, tuple[str, ...]]] = {"test": ("",)}

    def __init__(self, *, kind: str, severity: int, **options: Any) -> None:
        super().__init__(**options)
        self.kind, self.severity = kind, severity

    @property
    def folder(self) -> Path:
        """`fog/3`, directly in the root or in the folder of the archive's name."""
        root = Path(self.root).expanduser()
        places = [root / group / self.kind / str(self.severity) for group in ("", *GROUPS)]
        return next((place for place in places if place.is_dir()), places[0])
