"""The layout of the folders is the architecture: who may import whom, as data."""

import ast
import fnmatch
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

RECORDING = ["core", "store", "models", "datamodules"]
MEASUREMENTS = [*RECORDING, "recording"]
EVALUATION = [*MEASUREMENTS, "compressors", "measurements"]

MAY_IMPORT = {
    "core": [],
    "store": ["core"],
    "models": ["core"],
    "datamodules": ["core"],
    "compressors": ["core", "models"],
    "recording": RECORDING,
    "measurements": MEASUREMENTS,
    "evaluation": EVALUATION,
    "reporting": ["core", "store", "measurements.functional"],
    "cluster": ["core", "store", "evaluation"],
    "serving": [*EVALUATION, "evaluation", "reporting", "cluster"],
    "hydra_plugins": ["core", "cluster"],
}
IMPORT_ANYTHING = ("tests", "benchmarks")
NO_CODE = ("config", "sweeps", "docs", "dev")
ENTRY_FILES = ("evaluate.py", "train.py", "compress.py", "report.py", "serve.py")
ENTRY_LINES = 60

WITHOUT_TORCH = ("core", "store")
TORCH = ("torch", "torchvision", "timm", "pytorch_lightning", "torchmetrics", "torch_pruning")

NEW_IN_THE_LIBRARY = {"annotationlib", "compression"}  # Python 3.14
LIBRARY = set(sys.stdlib_module_names) | NEW_IN_THE_LIBRARY


def faults_of(root: Path) -> list[str]:
    """Every breach of the architecture below `root`, as sentences."""
    return [
        *layout_faults(root),
        *(fault for folder in MAY_IMPORT for fault in import_faults(root, folder)),
        *(fault for name in ENTRY_FILES for fault in entry_faults(root / name)),
    ]


def layout_faults(root: Path) -> Iterator[str]:
    """Top-level names that are not in the table, or that hide a module of the library."""
    known = {*MAY_IMPORT, *IMPORT_ANYTHING, *NO_CODE, *ENTRY_FILES, "setup.py"}
    for path in visible(root):
        if path.is_dir() or path.suffix == ".py":
            if path.name not in known:
                yield f"{path.name} is at the top level and not in the table of the architecture"
            if path.stem in LIBRARY:
                yield f"{path.name} hides the module {path.stem!r} of the standard library"


def visible(root: Path) -> Iterator[Path]:
    """What stands at the top level and is not ignored by git."""
    ignore = root / ".gitignore"
    patterns = ignore.read_text().split() if ignore.exists() else []
    for path in sorted(root.iterdir()):
        ignored = any(fnmatch.fnmatch(path.name, pattern.strip("/")) for pattern in patterns)
        if not ignored and not path.name.startswith("."):
            yield path


def import_faults(root: Path, folder: str) -> Iterator[str]:
    """Files of a folder that import what the table does not give them."""
    allowed = MAY_IMPORT[folder]
    for path in sorted((root / folder).rglob("*.py")):
        tree = ast.parse(path.read_text())
        name = path.relative_to(root).as_posix()
        imported = set(imports(tree))
        ours = {module for module in imported if module.split(".")[0] in MAY_IMPORT}
        wrong = sorted({shown(one, allowed) for one in ours if not may(one, [*allowed, folder])})
        if wrong:
            yield f"{name} imports {wrong}; {folder}/ may import {allowed}"
        if folder in WITHOUT_TORCH and any(may(module, TORCH) for module in imported):
            yield f"{name} imports torch; {folder}/ works without it"
        if folder == "hydra_plugins" and any(may(one, MAY_IMPORT) for one in top_imports(tree)):
            yield f"{name} imports ours at its top; every start of Hydra would pay for it"


def entry_faults(path: Path) -> Iterator[str]:
    """An entry file is short, and starts fast."""
    if not path.exists():
        return
    text = path.read_text()
    lines = len(text.splitlines())
    if lines >= ENTRY_LINES:
        yield f"{path.name} has {lines} lines; an entry file has fewer than {ENTRY_LINES}"
    light = ["core", "omegaconf", *sys.stdlib_module_names]
    heavy = sorted(
        {one.split(".")[0] for one in top_imports(ast.parse(text)) if not may(one, light)}
    )
    if heavy:
        yield f"{path.name} imports {heavy} at its top; there it may import ['core'] alone"


def may(module: str, allowed: Iterable[str]) -> bool:
    """Whether a dotted name is one of `allowed` or lies inside one."""
    return any(module == one or module.startswith(f"{one}.") for one in allowed)


def shown(module: str, allowed: list[str]) -> str:
    """The folder, or its part where only a part is allowed."""
    parts = module.split(".")
    is_divided = any(one.startswith(f"{parts[0]}.") for one in allowed)
    return ".".join(parts[:2]) if is_divided else parts[0]


def top_imports(node: ast.AST) -> Iterator[str]:
    """Names imported while the module itself is imported: those in functions left out."""
    yield from imported_by(node)
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from top_imports(child)


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of everything imported, at any depth."""
    for node in ast.walk(tree):
        yield from imported_by(node)


def imported_by(node: ast.AST) -> Iterator[str]:
    """Names one node imports; `from a import b` counts as `a.b`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        called = node.func.id if isinstance(node.func, ast.Name) else called
        if called in ("import_module", "__import__", "require"):
            yield str(node.args[0].value)


def plant(root: Path, name: str, text: str = "") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_architecture_is_kept() -> None:
    assert faults_of(ROOT) == []


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_the_table_has_no_circle(folder: str) -> None:
    below, reached = [*MAY_IMPORT[folder]], set()
    while below:
        reached.add(name := below.pop().split(".")[0])
        below += MAY_IMPORT[name]
    assert folder not in reached


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        (
            "models/bad.py",
            "import serving",
            "models/bad.py imports ['serving']; models/ may import ['core']",
        ),
        (
            "compressors/pruning/bad.py",
            "def f():\n    from measurements.paired import kl",
            "compressors/pruning/bad.py imports ['measurements']; "
            "compressors/ may import ['core', 'models']",
        ),
        (
            "datamodules/bad.py",
            "import importlib\nimportlib.import_module('models.small')",
            "datamodules/bad.py imports ['models']; datamodules/ may import ['core']",
        ),
        (
            "reporting/bad.py",
            "from measurements import benefits, functional",
            "reporting/bad.py imports ['measurements.benefits']; "
            "reporting/ may import ['core', 'store', 'measurements.functional']",
        ),
        (
            "store/bad.py",
            "def f():\n    import torch.nn",
            "store/bad.py imports torch; store/ works without it",
        ),
        (
            "core/bad.py",
            "from timm import create_model",
            "core/bad.py imports torch; core/ works without it",
        ),
        (
            "hydra_plugins/ours.py",
            "from cluster.submit import submit",
            "hydra_plugins/ours.py imports ours at its top; every start of Hydra would pay for it",
        ),
        (
            "helpers/x.py",
            "",
            "helpers is at the top level and not in the table of the architecture",
        ),
        ("score.py", "", "score.py is at the top level and not in the table of the architecture"),
        (
            "evaluate.py",
            "x = 1\n" * 60,
            "evaluate.py has 60 lines; an entry file has fewer than 60",
        ),
        (
            "train.py",
            "if True:\n    import torch\nfrom models.training import fit",
            "train.py imports ['models', 'torch'] at its top; there it may import ['core'] alone",
        ),
    ],
    ids=lambda value: value if str(value).endswith(".py") else "",
)
def test_a_breach_is_told(tmp_path: Path, name: str, text: str, fault: str) -> None:
    plant(tmp_path, name, text)
    assert faults_of(tmp_path) == [fault]


@pytest.mark.parametrize("name", ["compression/x.py", "types/x.py", "queue.py"])
def test_a_name_that_hides_the_library_is_told(tmp_path: Path, name: str) -> None:
    plant(tmp_path, name)
    top = name.split("/")[0]
    hidden = top.removesuffix(".py")
    assert f"{top} hides the module {hidden!r} of the standard library" in faults_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("reporting/good.py", "from measurements import functional\nimport store.query"),
        ("serving/good.py", "import cluster.submit, reporting.tables, torch"),
        ("models/good.py", "from models.edits import mask\nfrom core.errors import DataError"),
        ("hydra_plugins/good.py", "import hydra\ndef f():\n    from cluster.submit import submit"),
        ("evaluate.py", "import sys\nfrom core.app import main\ndef f():\n    import evaluation"),
        ("tests/test_x.py", "import serving, torch"),
        ("results/x.py", "import serving"),
    ],
    ids=lambda value: value if str(value).endswith(".py") else "",
)
def test_what_the_table_allows_is_fine(tmp_path: Path, name: str, text: str) -> None:
    plant(tmp_path, ".gitignore", "results/\n")
    plant(tmp_path, name, text)
    assert faults_of(tmp_path) == []


def test_core_and_store_are_imported_without_torch() -> None:
    names = sorted(
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for folder in WITHOUT_TORCH
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "__init__.py"
    )
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
