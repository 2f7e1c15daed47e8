import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from core.errors import DataError, IncompatibleModel, NotApplicable
from core.preprocessing import Preprocessing
from models.exported import ExportedClassifier, export_bytes, load_program
from models.small.digits import DigitsCNN

IMAGES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def digits(**options: str) -> DigitsCNN:
    torch.manual_seed(0)
    return DigitsCNN(pretrained=False, **options).eval()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "model.pt2"
    file.write_bytes(export_bytes(digits(), IMAGES))
    return file


@pytest.fixture(scope="module")
def loaded(program: Path) -> ExportedClassifier:
    preprocessing = digits().preprocessing
    return ExportedClassifier(str(program), num_classes=10, preprocessing=preprocessing).eval()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_program_takes_any_batch_size(loaded: ExportedClassifier, count: int) -> None:
    images = torch.rand(count, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), digits()(images), rtol=0, atol=1e-6)


def test_a_reduced_precision_is_part_of_the_program(tmp_path: Path) -> None:
    model = digits(dtype="bfloat16")
    (tmp_path / "model.pt2").write_bytes(export_bytes(model, IMAGES))
    with torch.no_grad():
        got = load_program(tmp_path / "model.pt2").module()(IMAGES)
        assert torch.equal(got, model(IMAGES))
        assert not torch.equal(got, digits()(IMAGES))


def test_training_mode_changes_nothing_and_images_get_gradients(
    loaded: ExportedClassifier,
) -> None:
    images = IMAGES.clone().requires_grad_()
    loaded.train()
    logits = loaded(images)
    loaded.eval()
    torch.testing.assert_close(logits, digits()(IMAGES), rtol=0, atol=1e-6)
    logits.sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_a_program_has_no_features_and_checks_its_images(loaded: ExportedClassifier) -> None:
    with pytest.raises(NotApplicable, match="logits, not features"):
        loaded.forward_features(IMAGES)
    with pytest.raises(ValueError, match=r"images of 1 channel, got 3"):
        loaded(torch.rand(1, 3, 8, 8))


def test_the_key_of_a_program_is_its_file(loaded: ExportedClassifier, tmp_path: Path) -> None:
    model = digits()
    model.backbone.head.bias.data[0] += 1
    file = tmp_path / "model.pt2"
    file.write_bytes(export_bytes(model, IMAGES))
    other = ExportedClassifier(str(file), num_classes=10, preprocessing=Preprocessing())
    assert other.fingerprint() != loaded.fingerprint()
    assert loaded.numerics()["runtime"] == "torch_export"


def test_the_images_of_the_example_are_not_stored() -> None:
    images = torch.full((2, 1, 8, 8), 0.123456)
    assert images.numpy().tobytes() not in export_bytes(digits(), images)


def test_a_model_whose_path_depends_on_its_images_is_refused_with_a_sentence() -> None:
    class Fork(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) if x.sum() > 0 else x.flatten(1) * 2

    with pytest.raises(IncompatibleModel, match=r"torch\.export cannot follow Fork: "):
        export_bytes(Fork(), IMAGES)


# -- what a stranger's file may not do


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("raise SystemExit('code of a file was run')",)


def rewrite(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """Copy an archive entry by entry."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


def with_program(change: Callable[[dict], None]) -> Callable[[str, bytes], bytes]:
    def apply(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        value = json.loads(content)
        change(value)
        return json.dumps(value).encode()

    return apply


def pickled_sample(name: str, content: bytes) -> bytes:
    return pickle.dumps(Bomb()) if name.endswith("sample_inputs/model.pt") else content


def pickled_sample_of_torch(name: str, content: bytes) -> bytes:
    if not name.endswith("sample_inputs/model.pt"):
        return content
    buffer = io.BytesIO()
    torch.save(Bomb(), buffer)
    return buffer.getvalue()


def pickled_weight(name: str, content: bytes) -> bytes:
    if not name.endswith("model_weights_config.json"):
        return content
    value = json.loads(content)
    next(iter(value["config"].values()))["use_pickle"] = True
    return json.dumps(value).encode()


def pickled_object(name: str, content: bytes) -> bytes:
    if not name.endswith("model_constants_config.json"):
        return content
    payload = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": False}
    return json.dumps({"config": {"bomb": {**payload, "tensor_meta": None}}}).encode()


def foreign_operator(value: dict) -> None:
    value["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.system"


def foreign_operator_as_argument(value: dict) -> None:
    argument = value["graph_module"]["graph"]["nodes"][0]["inputs"][0]
    argument["arg"] = {"as_operator": "torch.os.system"}


def code_as_shape(value: dict) -> None:
    tensors = value["graph_module"]["graph"]["tensor_values"].values()
    size = next(s for t in tensors for s in t["sizes"] if "as_expr" in s)
    size["as_expr"]["expr_str"] = "__import__('os').system('true')"


def attribute_as_shape(value: dict) -> None:
    tensors = value["graph_module"]["graph"]["tensor_values"].values()
    size = next(s for t in tensors for s in t["sizes"] if "as_expr" in s)
    size["as_expr"]["expr_str"] = "Max.mro()"


def call_as_shape(value: dict) -> None:
    tensors = value["graph_module"]["graph"]["tensor_values"].values()
    size = next(s for t in tensors for s in t["sizes"] if "as_expr" in s)
    size["as_expr"]["expr_str"] = "Max(1, breakpoint())"


def code_as_guard(value: dict) -> None:
    value["guards_code"] = ["exec('1')"]


def foreign_container(value: dict) -> None:
    signature = value["graph_module"]["module_call_graph"][0]["signature"]
    signature["in_spec"] = signature["in_spec"].replace("builtins.dict", "collections.defaultdict")


ATTACKS = {
    "pickle": (pickled_sample, "entry data/sample_inputs|sample_inputs/model.pt"),
    "pickle_of_torch": (pickled_sample_of_torch, "sample_inputs/model.pt"),
    "weight": (pickled_weight, "is pickled"),
    "object": (pickled_object, "bomb is pickled"),
    "operator": (with_program(foreign_operator), "operator torch.os.system"),
    "operator_argument": (with_program(foreign_operator_as_argument), "operator torch.os.system"),
    "shape": (with_program(code_as_shape), "expression __import__"),
    "attribute": (with_program(attribute_as_shape), r"expression Max\.mro"),
    "call": (with_program(call_as_shape), r"expression Max\(1, breakpoint"),
    "guard": (with_program(code_as_guard), "guard exec"),
    "container": (with_program(foreign_container), "container .*defaultdict"),
}


@pytest.mark.parametrize(("change", "named"), ATTACKS.values(), ids=ATTACKS)
def test_a_file_that_could_run_code_is_refused(program, tmp_path, change, named) -> None:
    evil = rewrite(program, tmp_path / "evil.pt2", change)
    with pytest.raises(DataError, match=named):
        load_program(evil)


def test_an_unknown_entry_is_refused(program: Path, tmp_path: Path) -> None:
    evil = rewrite(program, tmp_path / "evil.pt2", lambda _, content: content)
    with zipfile.ZipFile(evil, "a") as archive:
        archive.writestr("archive/data/aotinductor/model/model.so", b"\x7fELF")
    with pytest.raises(DataError, match=r"entry data/aotinductor/model/model\.so"):
        load_program(evil)


def test_an_untouched_copy_is_accepted(program: Path, tmp_path: Path) -> None:
    copied = rewrite(program, tmp_path / "copy.pt2", lambda _, content: content)
    assert load_program(copied).module()(IMAGES).shape == (3, 10)


def test_a_truncated_file_is_called_damaged(program: Path, tmp_path: Path) -> None:
    (tmp_path / "half.pt2").write_bytes(program.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"half.pt2 is damaged"):
        load_program(tmp_path / "half.pt2")


# -- one reader's archive is not another's: of equal names Python takes the last, torch any


def archive_of(target: Path, entries: Iterable[tuple[str, bytes]], kind: int = 0) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", kind) as archive:
        warnings.filterwarnings("ignore", "Duplicate name", UserWarning)
        for name, content in entries:
            archive.writestr(name, content)
    return target


def entries_of(path: Path) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def trapped(program: Path, tmp_path: Path) -> tuple[bytes, Path]:
    """A program that makes a folder as torch evaluates one of its shapes, and that folder."""
    trap = tmp_path / "trap"

    def set_trap(value: dict) -> None:
        tensors = value["graph_module"]["graph"]["tensor_values"].values()
        for size in (s for t in tensors for s in t["sizes"] if "as_expr" in s):
            size["as_expr"]["expr_str"] = f"__import__('os').makedirs({str(trap)!r}, exist_ok=True)"

    name = "archive/models/model.json"
    return with_program(set_trap)(name, dict(entries_of(program))[name]), trap


def test_the_trap_of_these_tests_works(program: Path, tmp_path: Path) -> None:
    content, trap = trapped(program, tmp_path)
    evil = rewrite(
        program, tmp_path / "evil.pt2", lambda n, c: content if n.endswith("model.json") else c
    )
    with pytest.raises(Exception, match=r".+"):
        torch.export.load(evil)
    assert trap.exists()


@pytest.mark.parametrize("last", [True, False], ids=["good last", "good first"])
@pytest.mark.parametrize("copies", range(1, 9))
def test_an_entry_that_is_there_twice_is_refused(
    program: Path, tmp_path: Path, copies: int, last: bool
) -> None:
    content, trap = trapped(program, tmp_path)
    evil = [("archive/models/model.json", content)] * copies
    good = entries_of(program)
    file = archive_of(tmp_path / "evil.pt2", [*evil, *good] if last else [*good, *evil])
    with pytest.raises(DataError, match=r"more than one entry models/model\.json"):
        load_program(file)
    assert not trap.exists()


@pytest.mark.parametrize("other", ["other/models/model.json", "Archive/models/model.json"])
def test_a_second_folder_in_the_archive_is_refused(
    program: Path, tmp_path: Path, other: str
) -> None:
    content, trap = trapped(program, tmp_path)
    for entries in ([(other, content), *entries_of(program)], [*entries_of(program), (other, b"")]):
        file = archive_of(tmp_path / "evil.pt2", entries)
        with pytest.raises(DataError, match=r"folders .*; more than one entry models/model\.json"):
            load_program(file)
    assert not trap.exists()


def test_names_that_differ_in_case_alone_are_one_name(program: Path, tmp_path: Path) -> None:
    entries = [*entries_of(program), ("archive/.data/VERSION", b"3")]
    with pytest.raises(DataError, match=r"more than one entry \.data/version"):
        load_program(archive_of(tmp_path / "evil.pt2", entries))


def test_a_compressed_entry_is_refused(program: Path, tmp_path: Path) -> None:
    file = archive_of(tmp_path / "bomb.pt2", entries_of(program), zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match=r"compressed entry data/weights/weight_0"):
        load_program(file)


def test_entries_that_share_bytes_are_refused(program: Path, tmp_path: Path) -> None:
    hidden = archive_of(tmp_path / "hidden", [("archive/data/weights/weight_99", bytes(64))])
    with zipfile.ZipFile(hidden) as archive:
        inner = archive.infolist()[0]
    outer = "archive/data/weights/weight_98"
    file = archive_of(tmp_path / "evil.pt2", entries_of(program))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(outer, hidden.read_bytes())
        inner.header_offset = archive.getinfo(outer).header_offset + 30 + len(outer)
        archive.filelist.append(inner)
    with zipfile.ZipFile(file) as archive:
        assert inner.filename in archive.namelist()
    with pytest.raises(DataError, match=r"weight_98 and data/weights/weight_99 overlap"):
        load_program(file)


def test_torch_gets_the_bytes_that_were_checked(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, trap = trapped(program, tmp_path)
    file = archive_of(tmp_path / "model.pt2", entries_of(program))
    genuine = torch.export.load

    def load_late(given: io.BytesIO) -> object:
        archive_of(file, [(n, content if "model.json" in n else c) for n, c in entries_of(program)])
        return genuine(given)

    monkeypatch.setattr(torch.export, "load", load_late)
    with torch.no_grad():
        got = load_program(file).module()(IMAGES)
        torch.testing.assert_close(got, digits()(IMAGES), rtol=0, atol=1e-6)
    assert not trap.exists()


def test_a_program_that_torch_cannot_read_is_told(program: Path, tmp_path: Path) -> None:
    entries = [(name, content) for name, content in entries_of(program) if "weight_3" not in name]
    with pytest.raises(DataError, match=r"less\.pt2 cannot be loaded by torch "):
        load_program(archive_of(tmp_path / "less.pt2", entries))


def test_text_that_hides_in_a_container_is_refused(program: Path, tmp_path: Path) -> None:
    def hide(value: dict) -> None:
        tensors = value["graph_module"]["graph"]["tensor_values"].values()
        size = next(s for t in tensors for s in t["sizes"] if "as_expr" in s)
        size["as_expr"]["expr_str"] = {"a": "breakpoint()"}

    evil = rewrite(program, tmp_path / "evil.pt2", with_program(hide))
    with pytest.raises(DataError, match=r"expression \{'a': 'breakpoint"):
        load_program(evil)
