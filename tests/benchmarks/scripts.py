"""Scripts of benchmarks/, run as a person runs them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def script(name: str, **variables: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Function that runs a script with some arguments, and variables of the environment."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
        environment = {**os.environ, **variables}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    return run
