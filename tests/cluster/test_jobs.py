from itertools import product

import pytest

from cluster.jobs import RECIPE, jobs_of, receipt_key, root_of, sweep_digest
from cluster.legality import enough
from core.errors import ConfigError

HERE = {"entry": "evaluate.py", "flags": [], "code": "code"}


def crossed(*choices: str) -> list[list[str]]:
    """Lines of a sweep: `crossed("model=a,b", "seed=1,2")`."""
    keys = [choice.partition("=")[0] for choice in choices]
    values = [choice.partition("=")[2].split(",") for choice in choices]
    lines = product(*values)
    return [[f"{k}={v}" for k, v in zip(keys, line, strict=True)] for line in lines]


def first_wave(lines: list[list[str]]) -> list[str]:
    return [" ".join(job.overrides) for job in jobs_of(lines) if job.wave == 0]


def test_each_distinct_baseline_goes_first() -> None:
    lines = crossed("model=a,b", "compressor=level,none,fpgm", "limit_samples=1,2")
    assert first_wave(lines) == [
        f"model={model} compressor=none limit_samples={n}" for model in "ab" for n in (1, 2)
    ]


def test_a_baseline_is_recorded_once_whatever_its_recipes_learn_from() -> None:
    lines = crossed("compressor=level,none", "seed=0,1", "tuning.samples=5,6", "name=x,y")
    assert first_wave(lines) == ["compressor=none seed=0 tuning.samples=5 name=x"]


@pytest.mark.parametrize("override", ["model.pretrained=false", "++model.pretrained=False"])
def test_random_weights_are_another_baseline_for_every_seed(override: str) -> None:
    lines = [[override, *line] for line in crossed("compressor=level,none", "seed=0,1")]
    assert first_wave(lines) == [f"{override} compressor=none seed={seed}" for seed in (0, 1)]


@pytest.mark.slow
def test_what_splits_baselines_is_what_their_records_are_known_by() -> None:
    from evaluation.recipe import STEPS
    from recording.key import Pass

    assert set(RECIPE) == set(STEPS)
    assert not {"seed", "tuning"} & set(Pass.__dataclass_fields__)


@pytest.mark.parametrize(
    ("most", "expected"),
    [(None, "0 1 1 1"), (4, "0 1 1 1"), (2, "0 1 1 2"), (1, "0 1 2 3")],
)
def test_a_wave_has_no_more_jobs_than_allowed(most: int | None, expected: str) -> None:
    jobs = jobs_of(crossed("compressor=none,level,fpgm,taylor"), most)
    assert " ".join(str(job.wave) for job in jobs) == expected


def test_trainings_wait_for_no_other() -> None:
    assert {job.wave for job in jobs_of(crossed("seed=0,1,2"), baselines=False)} == {0}


def test_a_wave_without_jobs_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_batch_size is 1 or more, or null, got 0"):
        jobs_of([["seed=1"]], 0)


def test_without_the_baseline_itself_the_first_job_makes_it() -> None:
    lines = crossed("model=a,b", "compressor=level,fpgm", "compressor.sparsity=0.3,0.5")
    assert first_wave(lines) == [
        "model=a compressor=level compressor.sparsity=0.3",
        "model=b compressor=level compressor.sparsity=0.3",
    ]


@pytest.mark.parametrize(
    "line",
    ["finetune=short", "compressor@then=int8_static", "+then.samples=5", "finetune.epochs=1"],
)
def test_every_slot_of_the_recipe_shares_the_baseline(line: str) -> None:
    assert first_wave([[line, "seed=0"], ["seed=0"]]) == ["seed=0"]


def test_another_setting_of_what_is_measured_is_another_baseline() -> None:
    assert len(first_wave(crossed("compressor=level", "limit_samples=10,20"))) == 2


def test_a_thousand_jobs_have_a_thousand_names() -> None:
    jobs = jobs_of(crossed("seed=" + ",".join(map(str, range(1000)))))
    assert len({job.id for job in jobs}) == 1000
    assert (jobs[7].id, jobs[7].overrides) == ("007", ("seed=7",))


def test_a_command_line_that_stands_twice_is_one_job() -> None:
    assert len(jobs_of([["seed=1"], ["seed=1"]])) == 1


def test_a_sweep_over_modes_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose one of mode=cluster, mode=local"):
        jobs_of(crossed("mode=local,cluster"))


def test_a_receipt_belongs_to_the_line_the_entry_and_the_code() -> None:
    line = ["seed=0", "trainer.accelerator=gpu"]
    keys = {
        receipt_key(line, HERE),
        receipt_key(["seed=1", line[1]], HERE),
        receipt_key(["seed=0"], HERE),
        receipt_key(line, {**HERE, "entry": "train.py"}),
        receipt_key(line, {**HERE, "code": "edited"}),
        receipt_key(line, {**HERE, "flags": ["--config-name=other"]}),
    }
    assert len(keys) == 6


def test_what_is_shown_elsewhere_does_not_change_a_receipt() -> None:
    plain = receipt_key(["seed=0"], HERE)
    assert receipt_key(["seed=0", "wandb.mode=online", "name=x"], HERE) == plain


def test_a_name_that_is_a_folders_changes_a_receipt() -> None:
    training = {**HERE, "entry": "train.py"}
    assert receipt_key(["name=a"], training) != receipt_key(["name=b"], training)
    plain = receipt_key(["seed=0"], training)
    assert receipt_key(["seed=0", "wandb.mode=online"], training) == plain


def test_a_sweep_is_known_again_by_its_jobs() -> None:
    first = sweep_digest(jobs_of(crossed("seed=0,1")), HERE)
    assert sweep_digest(jobs_of(crossed("seed=0,1")), HERE) == first
    assert sweep_digest(jobs_of(crossed("seed=0,2")), HERE) != first
    assert sweep_digest(jobs_of(crossed("seed=0,1")), {**HERE, "code": "edited"}) != first


@pytest.mark.parametrize(
    ("override", "root"),
    [
        ("hydra/launcher=slurm", "hydra"),
        ("model@baseline=a", "baseline"),
        ("~finetune", "finetune"),
        ("++a.b=c.d@e", "a"),
    ],
)
def test_the_root_of_an_override(override: str, root: str) -> None:
    assert root_of(override) == root


def test_each_choice_is_composed_once_and_values_are_not() -> None:
    lines = crossed("model=a,b", "compressor=c,d", "compressor.sparsity=0.1,0.2", "seed=0,1,2")
    composed = [" ".join(line) for line in enough(lines, {"model", "compressor"})]
    assert composed == [
        "model=a compressor=c compressor.sparsity=0.1 seed=0",
        "model=a compressor=d compressor.sparsity=0.1 seed=0",
        "model=b compressor=c compressor.sparsity=0.1 seed=0",
    ]


@pytest.mark.parametrize("key", ["model_name", "model.width", "+trainer.limit", "++model.width"])
def test_a_thousand_values_of_a_setting_are_composed_once(key: str) -> None:
    lines = crossed(f"{key}=" + ",".join(f"m{number}" for number in range(1000)))
    assert enough(lines, {"model"}) == [[f"{key}=m0"]]


@pytest.mark.parametrize("key", ["+model@other.place", "hydra/launcher"])
def test_a_file_of_a_group_is_composed(key: str) -> None:
    lines = crossed(f"{key}=a,b")
    assert enough(lines, {"model", "hydra/launcher"}) == lines
