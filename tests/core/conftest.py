from pathlib import Path

import pytest

FILES = {
    "defaults.yaml": """
        defaults:
          - _self_
          - mode: here
          - model: small
          - model@baseline: null
          - compressor: none
          - compressor@then: none
          - override hydra/job_logging: none
          - override hydra/hydra_logging: none
        seed: 0
        results_dir: unset
        datasets: [digits]
        allowed_targets: []
        hydra:
          run: {dir: .}
          output_subdir: null
          sweep: {dir: sweep, subdir: .}
        """,
    "mode/here.yaml": """
        # @package _global_
        mode: here
        """,
    "mode/many.yaml": """
        # @package _global_
        mode: many
        hydra: {mode: MULTIRUN}
        """,
    "mode/trusting.yaml": """
        # @package _global_
        mode: trusting
        allowed_targets: [elsewhere]
        """,
    "model/small.yaml": """
        # @package _global_
        model_name: small
        model: {width: 8}
        """,
    "model/large.yaml": """
        # @package _global_
        model_name: large
        model: {width: 64}
        """,
    "compressor/none.yaml": "name: none",
    "compressor/l1.yaml": "{name: l1, sparsity: 0.5}",
    "compressor/l2.yaml": "{name: l2, sparsity: 0.5}",
}


@pytest.fixture
def small_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with the shape of the real one; the working directory is empty."""
    folder = tmp_path / "config"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.strip("\n").splitlines()
        indent = len(lines[0]) - len(lines[0].lstrip())
        path.write_text("\n".join(line[indent:] for line in lines) + "\n")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder
