"""`python compress.py` as a person types it."""

import csv
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file

from models.artifacts import read_artifact
from store.quarantine import CorruptFileWarning

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Ended:
    """How the command ended and what it wrote."""

    code: object
    out: str
    err: str


Compress = Callable[..., Ended]


@pytest.fixture
def compress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Compress:
    """Run an entry file with arguments, in this process and in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, entry: str = "compress") -> Ended:
        monkeypatch.setattr(sys, "argv", [str(ROOT / f"{entry}.py"), *arguments])
        with pytest.raises(SystemExit) as ended:
            getattr(importlib.import_module(entry), entry)()
        return Ended(ended.value.code, *capsys.readouterr())

    return run


FAULTS = {
    "text": (["export=onnx", "compressor=level"], ["write export=[onnx]"]),
    "two at once": (["export=[onx]", "seed=x"], ["did you mean 'onnx'", "seed is a whole number"]),
    "analysis": (["analyse=senstivity"], ["did you mean 'sensitivity'"]),
    "files": (["compressor=l1_filtre", "model=digit_cnn"], ["l1_filter", "digits_cnn"]),
    "sparsity": (["compressor=level", "compressor.sparsity=1"], ["[0, 1)"]),
    "no sparsity": (
        ["analyse=sensitivity", "compressor=ort", "sensitivity.drop=much"],
        ["sensitivity.drop is a number or null, got 'much'", "has a sparsity", "got ort"],
    ),
    "sparsities": (
        ["analyse=sensitivity", "sensitivity.sparsities=[0.5,1.5]"],
        ["sensitivity.sparsities: sparsity is the fraction removed"],
    ),
    "data": (
        ["analyse=sensitivity", "datasets=[cifar10]", "dataset_library.cifar10.root=/nowhere"],
        ["tuning.dataset=cifar10", "/nowhere"],
    ),
    "folder": (["compressor=level", "results_dir=/dev/null/r"], ["results_dir=/dev/null/r"]),
}


def test_without_anything_to_do_it_says_what_there_is(compress: Compress) -> None:
    done = compress()
    assert (done.code, done.out) == (2, "")
    assert "compressor=none changes nothing" in done.err
    assert "analyse=cost" in done.err


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "told"), FAULTS.values(), ids=FAULTS)
def test_faults_are_told_at_once_before_anything_is_done(
    compress: Compress, arguments: list[str], told: list[str], tmp_path: Path
) -> None:
    done = compress(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
    for words in told:
        assert words in done.err
    assert not list(tmp_path.rglob("artifacts"))


@pytest.mark.slow
def test_a_dry_run_makes_nothing(compress: Compress, tmp_path: Path) -> None:
    done = compress("compressor=level", "dry_run=true")
    assert (done.code, done.out.splitlines()[-1]) == (0, "not made yet")
    done = compress("compressor=level", "export=[onnx,masks]", "dry_run=true")
    assert done.out.splitlines()[-3:] == [
        "not made yet",
        "would export: model.onnx",
        "would export: masks.safetensors",
    ]
    done = compress("analyse=cost", "dry_run=true")
    assert (done.code, done.out) == (0, "analyse=cost of digits_cnn: nothing is made\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_costs_are_shown_and_written(compress: Compress, tmp_path: Path) -> None:
    done = compress("analyse=cost")
    assert done.code == 0, done.err
    assert "678,368" in done.out
    (table,) = tmp_path.glob("results/analyses/cost-digits_cnn-*/cost.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert sum(int(row["params"]) for row in rows) == 56_250
    assert rows[0] == {
        "name": "conv", "type": "Conv2d", "weight_shape": "16x1x3x3", "macs": "9216",
        "params": "144", "input_size": "1x8x8", "output_size": "16x8x8",
    }  # fmt: skip
    written = {path.name for path in table.parent.iterdir()}
    assert written == {"cost.csv", "cost.json", "cost.png", "cost.pdf"}


@pytest.mark.slow
def test_sensitivities_are_those_of_the_criterion_and_its_layers(
    compress: Compress, tmp_path: Path
) -> None:
    line = ["analyse=sensitivity", "tuning.samples=200", "sensitivity.sparsities=[0.5,0.9]"]
    chosen = "compressor.op_names=['block?.conv1']"
    done = compress(*line, "sensitivity.drop=0.01", "compressor=fpgm", chosen)
    assert done.code == 0, done.err
    (table,) = tmp_path.glob("results/analyses/sensitivity-*/sensitivity.csv")
    head, *rows = csv.reader(table.read_text().splitlines())
    assert head == ["layername", "0.5", "0.9"]
    assert [row[0] for row in rows] == ["block1.conv1", "block2.conv1", "block3.conv1"]
    found = json.loads(table.with_suffix(".json").read_text())
    assert found["baseline"] > 0.97
    # half the filters of the first block cost far more than a point: there it ends
    assert float(rows[0][1]) < found["baseline"] - 0.1
    assert rows[0][2] == ""
    assert "the model as it is" in done.out
    assert "a row ends with the first score past drop=0.01" in done.out


@pytest.mark.slow
def test_the_same_command_finds_the_artifact_and_exports_it(
    compress: Compress, tmp_path: Path
) -> None:
    line = ["compressor=l1_filter", "compressor.op_names=[block1.conv1]"]
    made = compress(*line)
    assert made.code == 0, made.err
    found = compress(*line, "export=[exported,masks]")
    assert found.code == 0, found.err
    (folder,) = tmp_path.glob("results/artifacts/*")
    told = f"results/artifacts/{folder.name}"
    assert made.out.splitlines()[-1].startswith("made in ")
    assert made.out.endswith(f"s: {told}\n")
    how, *files = found.out.splitlines()[-3:]
    assert how.startswith("found in ")
    assert files == [f"exported: {told}/{name}" for name in ("model.pt2", "masks.safetensors")]
    assert int(load_file(folder / "masks.safetensors")["block1.conv1.weight"].sum()) == 8 * 144
    # the table is the same: what was achieved is remembered with the artifact, notes included
    assert made.out.splitlines()[:-1] == found.out.splitlines()[:-3]
    achieved = read_artifact(folder).achieved["compressor"]
    assert f"{achieved['params_after']:,}" in made.out
    dry = compress(*line, "dry_run=true")
    assert dry.out.splitlines()[-1].startswith("found in ")
    # a damaged one is not found: another is made in its place
    (folder / "weights.safetensors").write_bytes(b"")
    with pytest.warns(CorruptFileWarning, match="cannot be used"):
        again = compress(*line)
    assert again.out.splitlines()[-1].startswith("made in ")


@pytest.mark.slow
def test_an_evaluation_finds_what_was_made(compress: Compress, tmp_path: Path) -> None:
    made = compress("compressor=level")
    assert made.code == 0
    assert (made.out + made.err).count("single weights are zero but stored") == 1
    (folder,) = tmp_path.glob("results/artifacts/*")
    before = folder.stat().st_mtime_ns
    line = ["compressor=level", "measurements=[params]", "wandb.mode=disabled"]
    done = compress(*line, entry="evaluate")
    assert done.code == 0, done.err
    assert [f.stat().st_mtime_ns for f in tmp_path.glob("results/artifacts/*")] == [before]
    assert len(list(tmp_path.glob("results/recipes/*"))) == 1
    # made by an evaluation, whose tables have no room for notes, they are told
    other = compress("compressor=level", "compressor.sparsity=0.6", *line[1:], entry="evaluate")
    assert (other.out + other.err).count("single weights are zero but stored") == 1


@pytest.mark.slow
def test_one_command_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "compress.py"), "analyse=dependency"], cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    (table,) = tmp_path.glob("results/analyses/dependency-*/dependency.csv")
    assert table.read_text().splitlines()[1] == 'Set 1,"conv,block1.conv2"'
    assert f"{table.relative_to(tmp_path)}\n" in done.stdout
