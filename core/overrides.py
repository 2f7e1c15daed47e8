"""Everything that is wrong with a command line, told at once.

Hydra stops at its first fault, and it accepts two command lines whose meaning nobody wants: a list
of files of one group (merged into one without a word) and a sweep over where things run.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from core.errors import unknown

VERSION_BASE = "1.3"


def parse(arguments: Sequence[str]) -> tuple[list[Override], list[str]]:
    """Overrides that can be read, and a sentence for each that cannot."""
    parser, overrides, faults = OverridesParser.create(), [], []
    for argument in arguments:
        try:
            overrides += parser.parse_overrides([argument])
        except OverrideParseException as error:
            told = error.message.removeprefix(f"Error parsing override {argument!r}").split("\n")
            reason = next(line for line in told if line)
            faults.append(f"expected key=value, got {argument!r} ({reason})")
    return overrides, faults


def refused(overrides: Sequence[Override], folder: Path) -> list[str]:
    """Sentences for what Hydra would accept, or reject with a traceback, but nobody means."""
    return [
        fault
        for override in overrides
        if not override.is_delete() and (group := folder / override.key_or_group).is_dir()
        for fault in _refused_choice(override, sorted(path.stem for path in group.glob("*.yaml")))
    ]


def given(overrides: Sequence[Override], key: str) -> list[str]:
    """Strings of the list that the command line gives `key`; empty if it does not name it."""
    values = [override.value() for override in overrides if override.key_or_group == key]
    return [
        str(item) for value in values for item in (value if isinstance(value, list) else [value])
    ]


def spread(overrides: Sequence[Override]) -> dict[str, str]:
    """Arguments to rewrite so that a setting of a swept group reaches every job.

    Hydra composes the default configuration before it splits a sweep, and there
    `-m compressor=a,b compressor.sparsity=0.3` fails, because the default has no `sparsity`.
    Written as a sweep of one value, the setting is applied to the jobs alone.

    Example:
        >>> spread(parse(["compressor=a,b", "compressor.sparsity=0.3", "seed=1"])[0])
        {'compressor.sparsity=0.3': 'compressor.sparsity=choice(0.3)'}
    """
    swept = {_root(override) for override in overrides if override.is_sweep_override()}
    return {
        str(override.input_line): f"{override.get_key_element()}=choice({_value_text(override)})"
        for override in overrides
        if "." in override.key_or_group
        and _root(override) in swept
        and not override.is_sweep_override()
        and not override.is_delete()
    }


def find_faults(
    config_name: str, folder: Path, overrides: Sequence[Override], *, multirun: bool
) -> list[str]:
    """Check every override on its own against the configuration in `folder`.

    Args:
        config_name: File in `folder` that holds the defaults.
        folder: Root of the configuration.
        overrides: The command line.
        multirun: Whether `-m` was given; a mode may ask for it too.

    Returns:
        One sentence a fault with the nearest names; empty if each override is fine by itself.
    """
    with initialize_config_dir(version_base=VERSION_BASE, config_dir=str(folder)):
        try:
            return _Checker(config_name, overrides, multirun=multirun).faults()
        except HydraException as error:  # the configuration is broken without any override
            return [first_line(error)]


def first_line(error: BaseException) -> str:
    """Hydra's message and the reason below it as one sentence."""
    reasons = [str(part).splitlines()[0] for part in (error, error.__cause__) if str(part or "")]
    return ": ".join(reasons) or type(error).__name__


def _refused_choice(override: Override, files: Sequence[str]) -> Iterator[str]:
    group, text = override.get_key_element(), override.input_line
    options = list(_options(override))
    if any(isinstance(option, list) for option in options):
        yield (
            f"{text!r} would merge the files of a list into one; choose one file, compare several "
            f"with -m {group}=a,b, or put a second compressor behind the first with "
            "compressor=a compressor@then=b"
        )
    if override.key_or_group == "mode" and override.is_sweep_override():
        yield f"a mode is where things run, not what is compared: choose one, got {text!r}"
    if any(option is None or isinstance(option, int | float) for option in options):
        yield f"{group} is the name of a file, got {text!r}; there are: {', '.join(files)}"


def _options(override: Override) -> Iterator[Any]:
    """What a group is set to: one value, or each value of a sweep that can be listed."""
    value = override.value()
    if isinstance(value, ChoiceSweep):
        yield from (Override._convert_value(item) for item in value.list)
    elif not override.is_sweep_override():
        yield value


def _root(override: Override) -> str:
    """Top-level key that an override writes below."""
    return (override.package or override.key_or_group).split(".")[0]


def _value_text(override: Override) -> str:
    return str(override.input_line).partition("=")[2]


class _Checker:
    """Checks overrides one by one; lives inside an initialised Hydra."""

    def __init__(self, config_name: str, overrides: Sequence[Override], *, multirun: bool) -> None:
        self._config_name = config_name
        self._overrides = overrides
        self._multirun = multirun
        self._loader: ConfigLoader = GlobalHydra.instance().config_loader()
        self._compositions: dict[tuple[str, ...], DictConfig] = {}
        self._choices = self._compose([]).hydra.runtime.choices
        self._chosen: dict[str, list[str]] = {}  # group key -> its options that exist
        self._unsettled: set[str] = set()  # top-level keys below which a choice is wrong

    def faults(self) -> list[str]:
        """Groups first: which keys exist depends on what is chosen."""
        groups = [one for one in self._overrides if self._is_choice(one)]
        keys = [one for one in self._overrides if not self._is_choice(one)]
        faults = [fault for one in groups for fault in self._group_faults(one)]
        faults += [fault for one in keys for fault in self._key_faults(one)]
        if not (self._multirun or self._mode_is_multirun()):
            faults += [
                f"{one.input_line!r} has several values; -m runs each, [a,b] makes a list"
                for one in self._overrides
                if one.is_sweep_override()
            ]
        return list(dict.fromkeys(faults))

    def _compose(self, overrides: list[str]) -> DictConfig:
        key = tuple(overrides)
        if key not in self._compositions:
            self._compositions[key] = compose(
                self._config_name, overrides=overrides, return_hydra_config=True
            )
        return self._compositions[key]

    def _is_choice(self, override: Override) -> bool:
        plain = not (override.is_add() or override.is_force_add() or override.is_delete())
        is_value = any(isinstance(option, dict) for option in _options(override))
        return plain and not is_value and bool(self._files(override))

    def _files(self, override: Override) -> list[str]:
        return list(self._loader.get_group_options(override.key_or_group))

    def _mode_is_multirun(self) -> bool:
        first = [f"{group}={options[0]}" for group, options in self._chosen.items()]
        return str(self._compose(first).hydra.mode).endswith("MULTIRUN")

    def _group_faults(self, override: Override) -> Iterator[str]:
        group = override.get_key_element()
        if group not in self._choices:
            yield unknown("group", group, [key for key in self._choices if "hydra" not in key])
            return
        files = self._files(override)
        for option in _options(override):
            if option in files:
                self._chosen.setdefault(group, []).append(option)
            elif isinstance(option, str):
                self._unsettled.add(_root(override))
                yield unknown(group, option, files)

    def _key_faults(self, override: Override) -> Iterator[str]:
        if _root(override) in self._unsettled:
            return
        line = str(override.input_line)
        if override.is_sweep_override():
            values = override.sweep_string_iterator() if override.is_discrete_sweep() else ()
            value = next(iter(values), "null")
            line = f"{override.get_key_element()}={value}"
        for base in self._bases(_root(override)):
            try:
                self._compose([*base, line])
            except HydraException as error:
                yield self._explain(override, base, error)

    def _bases(self, root: str) -> Iterator[list[str]]:
        """Choices to check a key below `root` with: each option of the group that fills it."""
        first = {group: options[0] for group, options in self._chosen.items()}
        owner = next((group for group in first if group.split("@")[-1] == root), None)
        for option in self._chosen.get(owner or "", [""]):
            chosen = {**first, owner: option} if owner else first
            yield [f"{group}={name}" for group, name in chosen.items()]

    def _explain(self, override: Override, base: list[str], error: HydraException) -> str:
        if not isinstance(error.__cause__, ConfigAttributeError | ConfigKeyError):
            return first_line(error)
        config = self._compose(base)
        parent, name, siblings = _where_it_ends(config, override.key_or_group)
        if not parent:
            siblings += [str(group) for group in self._choices if "hydra" not in str(group)]
        sentence = unknown(f"key of {parent}" if parent else "key", name, set(siblings))
        elsewhere = [key for key in _dotted(config) if key.endswith(f".{name}")]
        if elsewhere and "did you mean" not in sentence:
            return f"unknown key {override.key_or_group!r}, did you mean {elsewhere[0]!r}?"
        return sentence + _choice_of(_root(override), config)


def _where_it_ends(config: DictConfig, key: str) -> tuple[str, str, list[str]]:
    """Path of the last node of `key` that exists, the part that does not, and what is there."""
    node, path = config, list[str]()
    for part in key.split("."):
        child = node.get(part) if part in node else None
        if not isinstance(child, DictConfig):
            break
        node = child
        path.append(part)
    rest = ".".join(key.split(".")[len(path) :])
    return ".".join(path), rest, [str(name) for name in node if name != "hydra"]


def _dotted(config: DictConfig) -> Iterator[str]:
    """Every key of a configuration with its path, libraries and Hydra's own left out."""

    def walk(node: Any, prefix: str) -> Iterator[str]:
        for name, child in node.items() if isinstance(node, dict) else ():
            yield f"{prefix}{name}"
            yield from walk(child, f"{prefix}{name}.")

    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    ours = {k: v for k, v in plain.items() if k != "hydra" and not str(k).endswith("_library")}
    return walk(ours, "")


def _choice_of(root: str, config: DictConfig) -> str:
    """` (compressor=none)` where a choice decides which keys exist."""
    for group, name in config.hydra.runtime.choices.items():
        if str(group).split("@")[-1] == root:
            return f" (with {group}={name})"
    return ""
