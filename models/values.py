"""Any Python value as JSON, so that it can be part of a digest.

Equal for a copy and in another process: nothing depends on an address, on the hash of a string, or
on the device a tensor lies on. Tuples count as lists, paths as text, and mappings have no order:
so they come back from a file. An object is described the way it would be pickled, a function by
its code and by what it has enclosed.
"""

import functools
import hashlib
import inspect
import sys
import sysconfig
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from core.digest import digest
from core.errors import IncompatibleModel
from core.targets import OUR_PACKAGES

STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()

PACKAGE_FOLDERS = {"site-packages", "dist-packages"}
"""Names of the folders whose classes are known by the version of their package."""

FUNCTION_KINDS = (types.FunctionType, property, staticmethod, classmethod)


class Values:
    """Describes values; two are taken for equal where their descriptions are.

    Args:
        network: Describes a network that is met inside a value.

    Example:
        >>> Values().of({"b": (1, 0.5), "a": None})
        ['mapping', [['a', None], ['b', ['list', [1, ['float', '0.5']]]]]]
    """

    def __init__(self, network: Callable[[nn.Module], object] | None = None) -> None:
        self._network = network
        self._open: list[int] = []  # what is being described, from the outside in
        self._files: dict[Path, str] = {}

    def of(self, value: object) -> Any:
        """JSON form of a value.

        Raises:
            IncompatibleModel: It holds something with a state that cannot be read.
        """
        if value is None or type(value) in (bool, int, str):
            return value
        if id(value) in self._open:
            return ["ancestor", len(self._open) - self._open.index(id(value))]
        self._open.append(id(value))
        try:
            return self._form(value)
        finally:
            self._open.pop()

    def source(self, kind: type) -> str:
        """Digest of the file a class was made in, and of its members where these can differ.

        They can where a class was typed and not written to a file, and where a function made it.
        """
        file = file_of(kind)
        content = "" if file is None else self._file_digest(file)
        if file is not None and "<locals>" not in kind.__qualname__:
            return content
        members = {
            name: self.of(member)
            for name, member in vars(kind).items()
            if isinstance(member, FUNCTION_KINDS) or not name.startswith(("__", "_abc_"))
        }
        return digest([content, members])

    def _form(self, value: Any) -> object:
        exact = EXACT.get(type(value))
        if exact is not None:
            return exact(self, value)
        for kinds, describe in RULES:
            if isinstance(value, kinds):
                return describe(self, value)
        return self._object(value)

    def _many(self, values: Iterable[object]) -> list[Any]:
        return [self.of(value) for value in values]

    def _unordered(self, values: Iterable[object]) -> list[Any]:
        return sorted(self._many(values), key=repr)

    def _mapping(self, value: Mapping[Any, Any]) -> object:
        pairs = [[self.of(key), self.of(item)] for key, item in value.items()]
        return ["mapping", sorted(pairs, key=repr)]

    def _object(self, value: Any) -> object:
        """What a pickle of it would consist of."""
        try:
            parts = value.__reduce_ex__(4)
        except (TypeError, AttributeError, NotImplementedError, RuntimeError, ValueError) as error:
            kind = type(value)
            raise IncompatibleModel(f"a {kind.__module__}.{kind.__qualname__}") from error
        if isinstance(parts, str):
            return ["global", getattr(value, "__module__", None), parts]
        parts = (*parts, None, None, None)
        state, items, pairs = parts[2:5]
        return [
            "object",
            *self._many([parts[0], parts[1], state, None if items is None else list(items)]),
            None if pairs is None else self._mapping(dict(pairs)),
        ]

    def _type(self, kind: type) -> object:
        if is_foreign(kind):
            return ["type", kind.__module__, kind.__qualname__]
        return ["type", kind.__qualname__, self.source(kind)]

    def _function(self, function: types.FunctionType) -> object:
        """By its name where that names it; else by what it does."""
        file = file_of(function)
        if file is not None and _is_importable(function):
            where = function.__module__ if is_foreign(function) else self._file_digest(file)
            return ["function", where, function.__qualname__]
        enclosed = [_content(cell) for cell in function.__closure__ or ()]
        return [
            "function",
            None if file is None or is_foreign(function) else self._file_digest(file),
            self._code(function.__code__),
            *self._many([function.__defaults__, function.__kwdefaults__, vars(function)]),
            dict(zip(function.__code__.co_freevars, self._many(enclosed), strict=True)),
        ]

    def _code(self, code: types.CodeType) -> object:
        shape = [code.co_argcount, code.co_kwonlyargcount, code.co_flags]
        table = getattr(code, "co_exceptiontable", b"")
        names = [list(code.co_names), list(code.co_freevars)]
        return ["code", code.co_code.hex(), table.hex(), shape, names, self._many(code.co_consts)]

    def _builtin(self, function: Any) -> object:
        owner = getattr(function, "__self__", None)
        held = None if isinstance(owner, types.ModuleType) else self.of(owner)
        return ["builtin", function.__module__, function.__qualname__, held]

    def _network_form(self, network: nn.Module) -> object:
        if self._network is None:
            raise IncompatibleModel("a network")
        return self._network(network)

    def _array(self, array: np.ndarray) -> object:
        if array.dtype.hasobject:
            return ["array", list(array.shape), self.of(array.tolist())]
        content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        return ["array", array.dtype.str, list(array.shape), content]

    def _file_digest(self, file: Path) -> str:
        if file not in self._files:
            self._files[file] = hashlib.sha256(file.read_bytes()).hexdigest()
        return self._files[file]


Rule = Callable[[Values, Any], object]

EXACT: dict[type, Rule] = {
    float: lambda values, x: ["float", repr(x)],
    complex: lambda values, x: ["complex", repr(x)],
    bytes: lambda values, x: ["bytes", x.hex()],
    list: lambda values, x: ["list", values._many(x)],
    tuple: lambda values, x: ["list", values._many(x)],
    torch.Size: lambda values, x: ["list", values._many(x)],
    dict: Values._mapping,
    types.MappingProxyType: Values._mapping,
    set: lambda values, x: ["set", values._unordered(x)],
    frozenset: lambda values, x: ["set", values._unordered(x)],
}
"""How values of exactly these types are described."""

RULES: tuple[tuple[type | tuple[type, ...], Rule], ...] = (
    (Tensor, lambda values, x: ["tensor", digest_tensor(x)]),
    (np.ndarray, Values._array),
    (nn.Module, Values._network_form),
    (type, Values._type),
    (types.FunctionType, Values._function),
    (types.CodeType, Values._code),
    (types.MethodType, lambda values, x: ["method", *values._many([x.__func__, x.__self__])]),
    (types.BuiltinFunctionType, Values._builtin),
    ((types.MethodDescriptorType, types.WrapperDescriptorType), lambda values, x: ["c", repr(x)]),
    (
        (types.GetSetDescriptorType, types.MemberDescriptorType),
        lambda values, x: ["slot", x.__name__],
    ),
    ((staticmethod, classmethod), lambda values, x: ["static", values.of(x.__func__)]),
    (property, lambda values, x: ["property", *values._many([x.fget, x.fset, x.fdel])]),
    (functools.cached_property, lambda values, x: ["property", values.of(x.func)]),
    (functools._lru_cache_wrapper, lambda values, x: ["cached", values.of(x.__wrapped__)]),
    (types.ModuleType, lambda values, x: ["module", x.__name__]),
    (weakref.ref, lambda values, x: ["weak", values.of(x())]),
    (PurePath, lambda values, x: str(x)),
    (torch.device, lambda values, x: ["device"]),  # where it is computed is not what
    (torch.Generator, lambda values, x: ["generator", x.initial_seed()]),
    (
        (torch.dtype, torch.layout, torch.memory_format, torch._ops.OpOverload),
        lambda values, x: ["torch", str(x)],
    ),
    (fx.Graph, lambda values, x: ["graph", str(x)]),
    (torch.ScriptObject, lambda values, x: ["script", values.of(x.__getstate__())]),
)
"""How values of these types and of their subclasses are described; the first that fits."""


def digest_tensor(tensor: Tensor) -> str:
    """Digest of type, shape and bytes; packed tensors by what they are packed from."""
    if is_traceable_wrapper_subclass(tensor):
        names, context = tensor.__tensor_flatten__()
        inner = {name: digest_tensor(getattr(tensor, name)) for name in names}
        return digest({"inner": inner, "kind": type(tensor).__name__, "context": repr(context)})
    if tensor.is_meta:
        raise IncompatibleModel("a tensor without data, on the device meta")
    if tensor.is_quantized:
        parts = [digest_tensor(part) for part in (tensor.int_repr(), tensor.dequantize())]
        return digest([str(tensor.dtype), *parts])
    if tensor.layout != torch.strided:
        return digest([str(tensor.layout), digest_tensor(tensor.to_dense())])
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    flat = plain.contiguous().reshape(-1)
    content = hashlib.blake2b(flat.view(torch.uint8).numpy().data, digest_size=32)
    return digest([str(tensor.dtype), list(tensor.shape), content.hexdigest()])


def is_foreign(thing: Any) -> bool:
    """Whether a class or function is of the standard library or of an installed package."""
    package = (thing.__module__ or "").partition(".")[0]
    if package in OUR_PACKAGES:  # also where they are installed beside the foreign ones
        return False
    if package == "builtins":
        return True
    file = file_of(thing)
    if file is not None:
        return _is_foreign_file(file)
    known = sys.modules.get(thing.__module__ or "")  # a class made in C has no file of its own
    return known is not None and package in {"torch", "numpy", *sys.stdlib_module_names}


@cache
def _is_foreign_file(file: Path) -> bool:
    return not PACKAGE_FOLDERS.isdisjoint(file.parts) or file.is_relative_to(STANDARD_LIBRARY)


def file_of(thing: Any) -> Path | None:
    """File that a class or a function was made in, None where it was made in no file."""
    try:
        file = inspect.getsourcefile(thing)
    except (TypeError, OSError):
        return None
    return _existing(file) if file else None


@cache
def _existing(file: str) -> Path | None:
    return Path(file).resolve() if Path(file).is_file() else None


def _is_importable(function: types.FunctionType) -> bool:
    found: Any = sys.modules.get(function.__module__ or "")
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is function


def _content(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # it is filled in later
        return ...
