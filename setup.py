"""Packaging: our packages by name; everything else is in pyproject.toml.

Names as general as `models` would collide with others in a published wheel, so none is published:
the project is installed in place with `pip install -e .`.
"""

from setuptools import find_namespace_packages, setup

OURS = (
    "core",
    "store",
    "models",
    "datamodules",
    "compressors",
    "recording",
    "measurements",
    "evaluation",
    "reporting",
    "cluster",
    "hydra_plugins",
    "serving",
)

setup(
    packages=find_namespace_packages(
        include=[part for name in OURS for part in (name, f"{name}.*")]
    )
)
