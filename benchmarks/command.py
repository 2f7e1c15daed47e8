"""What every script here needs: `key=value` options, a line at once, processor time."""

import sys
import time
from collections.abc import Callable, Collection, Mapping


def options_of(
    text: str | None, defaults: Mapping[str, str], optional: Collection[str] = ()
) -> dict[str, str]:
    """Options of the command line; any other one ends the script with its text.

    Args:
        text: That explains them: the script's `__doc__`.
        defaults: Option -> its value where none is given.
        optional: Options without a default; absent where none is given.
    """
    given = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    if set(given) - {*defaults, *optional}:
        sys.exit(text)
    return {**defaults, **given}


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def cpu_seconds(run: Callable[[], object]) -> float:
    """Processor time of this process while `run` runs."""
    started = time.process_time()
    run()
    return time.process_time() - started
