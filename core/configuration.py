"""What can be said about a composed configuration without importing torch."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from core.errors import ConfigError, unknown

WANDB_MODES = ("online", "offline", "disabled")
SEEDS = 2**32  # what numpy's generators accept

KEYS_OF_AN_EVALUATION = (
    "seed",
    "name",
    "results_dir",
    "datasets",
    "measurements",
    "measurement_group_name",
    "model_name",
    "model",
    "baseline",
    "compressor",
    "then",
    "finetune",
    "tuning",
    "trainer",
    "wandb",
    "mode",
    "dry_run",
    "limit_samples",
    "verify_data",
    "batch_size",
    "threads",
    "allowed_targets",
    "dataset_library",
    "measurement_library",
)


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as dicts and lists, with every interpolation resolved.

    Raises:
        ConfigError: Values that are still `???`, or an interpolation that leads nowhere.

    Example:
        >>> plain(OmegaConf.create({"datasets": ["digits"], "names": "${datasets}"}))
        {'datasets': ['digits'], 'names': ['digits']}
    """
    if not isinstance(config, DictConfig):
        return dict(config)
    try:
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError([" ".join(str(error).split())]) from error
    missing = sorted(_missing(values))
    if missing:
        raise ConfigError([f"{key} has no value yet; give it as {key}=..." for key in missing])
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _missing(values: Any, path: str = "") -> Iterator[str]:
    """Keys that are still `???`; OmegaConf's own search resolves everything a second time."""
    if values == MISSING:
        yield path
    elif isinstance(values, dict):
        for key, value in values.items():
            yield from _missing(value, f"{path}.{key}" if path else str(key))
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from _missing(value, f"{path}[{index}]")


def check_types(config: Mapping[str, Any], *, required: Iterable[str] = ()) -> list[str]:
    """Sentences for keys that are missing, values of a wrong type and names nobody knows.

    Args:
        config: A composed configuration; a key that it does not have is not checked.
        required: Keys it must have, `KEYS_OF_AN_EVALUATION` for an evaluation.

    Example:
        >>> check_types({"seed": 0, "limit_samples": 0})
        ['limit_samples is null or a whole number, at least 1, got 0']
    """
    try:
        values = plain(config)
    except ConfigError as error:
        return error.faults
    missing = [f"{key} is missing from the configuration" for key in required if key not in values]
    wrong = {key: rule.fault(key, values[key]) for key, rule in RULES.items() if key in values}
    types = [fault for fault in wrong.values() if fault]
    sound = {key: value for key, value in values.items() if not wrong.get(key)}
    return missing + types + _wandb_faults(sound) + _tuning_faults(sound) + _name_faults(sound)


def require_sound(config: Mapping[str, Any], *, required: Iterable[str] = ()) -> None:
    """Refuse a configuration in which `check_types` finds faults.

    Raises:
        ConfigError: With every fault found.
    """
    faults = check_types(config, required=required)
    if faults:
        raise ConfigError(faults)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a value has to be, as a check and in words."""

    expects: str
    holds: Callable[[Any], bool]

    def fault(self, key: str, value: object) -> str:
        """Sentence if `value` breaks the rule, else an empty string."""
        if self.holds(value):
            return ""
        is_letters = isinstance(value, str) and self.holds([value])
        hint = f"; write {key}=[{value}]" if is_letters else ""
        return f"{key} is {self.expects}, got {value!r}{hint}"


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and _is_whole(value) and value >= 1


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_dict(value: object) -> bool:
    return isinstance(value, Mapping)


def _or_null(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or holds(value)


_TEXT = Rule(expects="a text", holds=_is_text)
_BOOL = Rule(expects="true or false", holds=lambda value: isinstance(value, bool))
_DICT = Rule(expects="a group of keys", holds=_is_dict)
_DICT_OR_NULL = Rule(expects="a group of keys or null", holds=_or_null(_is_dict))
_NAMES = Rule(expects="a list of names", holds=_is_names)
_COUNT_OR_NULL = Rule(expects="null or a whole number, at least 1", holds=_or_null(_is_positive))

RULES = {
    "seed": Rule(
        expects="a whole number in [0, 2**32)",
        holds=lambda value: _is_whole(value) and 0 <= value < SEEDS,
    ),
    "name": Rule(expects="a text or null", holds=_or_null(_is_text)),
    "results_dir": _TEXT,
    "datasets": _NAMES,
    "measurements": _NAMES,
    "measurement_group_name": _TEXT,
    "model_name": _TEXT,
    "model": _DICT,
    "baseline": _DICT_OR_NULL,
    "compressor": _DICT_OR_NULL,
    "then": _DICT_OR_NULL,
    "finetune": _DICT_OR_NULL,
    "tuning": _DICT,
    "trainer": _DICT,
    "wandb": _DICT,
    "mode": _TEXT,
    "dry_run": _BOOL,
    "limit_samples": _COUNT_OR_NULL,
    "verify_data": _BOOL,
    "batch_size": Rule(expects="a whole number, at least 1", holds=_is_positive),
    "threads": _COUNT_OR_NULL,
    "allowed_targets": _NAMES,
    "dataset_library": _DICT,
    "measurement_library": _DICT,
}


def _wandb_faults(values: Mapping[str, Any]) -> list[str]:
    wandb = values.get("wandb", {})
    faults = []
    if "mode" in wandb and wandb["mode"] not in WANDB_MODES:
        faults.append(f"wandb.mode is one of {', '.join(WANDB_MODES)}, got {wandb['mode']!r}")
    if "tags" in wandb:
        faults.append(_NAMES.fault("wandb.tags", wandb["tags"]))
    return [fault for fault in faults if fault]


def _tuning_faults(values: Mapping[str, Any]) -> list[str]:
    tuning = values.get("tuning")
    if tuning is None:
        return []
    rules = {
        "samples": _COUNT_OR_NULL,
        "score_share": Rule(
            expects="a share above 0 and below 1",
            holds=lambda value: isinstance(value, float) and 0 < value < 1,
        ),
    }
    faults = [rule.fault(f"tuning.{key}", tuning.get(key)) for key, rule in rules.items()]
    faults += _library_faults(
        "dataset", "tuning.dataset", [str(tuning.get("dataset"))], values.get("dataset_library")
    )
    return [fault for fault in faults if fault]


def _name_faults(values: Mapping[str, Any]) -> list[str]:
    """Names of datasets and measurements that no library has, or that stand twice."""
    datasets, measurements = values.get("datasets", []), values.get("measurements", [])
    known = values.get("measurement_library")
    chosen = {name: (known or {}).get(name) for name in measurements}
    faults = _library_faults("dataset", "datasets", datasets, values.get("dataset_library"))
    faults += _library_faults("measurement", "measurements", measurements, known)
    for name, entry in chosen.items():
        if isinstance(entry, Mapping) and "datamodule_names" in entry:
            key = f"measurement_library.{name}.datamodule_names"
            library = values.get("dataset_library")
            asked = entry["datamodule_names"]
            fault = _NAMES.fault(key, asked)
            faults += [fault] if fault else _library_faults("dataset", key, asked, library)
    return list(dict.fromkeys(faults))


def _library_faults(
    kind: str, key: str, names: list[str], library: Mapping[str, Any] | None
) -> list[str]:
    if library is None:
        return []
    strange = [unknown(kind, name, library) for name in names if name not in library]
    twice = sorted({name for name in names if names.count(name) > 1})
    return strange + [f"{key} has {name!r} twice" for name in twice]
