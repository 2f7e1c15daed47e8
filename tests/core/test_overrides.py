from pathlib import Path

import pytest

from core.overrides import find_faults, given, parse, refused, spread


def faults_of(folder: Path, *arguments: str, multirun: bool = False) -> list[str]:
    overrides, unreadable = parse(arguments)
    assert unreadable == []
    return find_faults("defaults", folder, overrides, multirun=multirun)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("seed=1", "datasets=[cifar10]"),
        ("compressor=l1", "compressor.sparsity=0.3"),
        ("compressor@then=l2", "then.sparsity=0.3"),
        ("model@baseline=large", "baseline.model.width=3"),
        ("+new=1", "~seed"),
        ("hydra.verbose=true",),
    ],
    ids=" ".join,
)
def test_a_sound_command_line_has_no_fault(small_config: Path, arguments: tuple[str, ...]) -> None:
    assert faults_of(small_config, *arguments) == []


def test_every_fault_is_told(small_config: Path) -> None:
    faults = faults_of(small_config, "sed=1", "compressor=l3", "model=larg", "dataset=[x]")
    assert [fault.split(". Known")[0].split("? Known")[0] for fault in faults] == [
        "unknown compressor 'l3'",
        "unknown model 'larg', did you mean 'large'",
        "unknown key 'sed', did you mean 'seed'",
        "unknown key 'dataset', did you mean 'datasets'",
    ]


def test_a_key_that_only_another_choice_has_names_the_choice(small_config: Path) -> None:
    expected = "unknown key of compressor 'sparsity'. Known: name (with compressor=none)"
    assert faults_of(small_config, "compressor.sparsity=0.5") == [expected]


def test_keys_below_a_wrong_choice_are_not_judged(small_config: Path) -> None:
    (fault,) = faults_of(small_config, "compressor=l3", "compressor.sparsity=0.5")
    assert fault.startswith("unknown compressor 'l3'")


def test_a_key_is_checked_with_each_choice_of_a_sweep(small_config: Path) -> None:
    line = ("compressor=l1,none", "compressor.sparsity=0.5")
    (fault,) = faults_of(small_config, *line, multirun=True)
    assert fault.endswith("(with compressor=none)")


def test_each_choice_of_a_sweep_is_checked(small_config: Path) -> None:
    (fault,) = faults_of(small_config, "model=small,larg", multirun=True)
    assert fault.startswith("unknown model 'larg', did you mean 'large'?")


def test_a_key_at_the_wrong_depth_is_pointed_to_its_place(small_config: Path) -> None:
    (fault,) = faults_of(small_config, "compressor=l1", "sparsity=0.5")
    assert fault == "unknown key 'sparsity', did you mean 'compressor.sparsity'?"


def test_a_folder_that_is_no_group_of_the_defaults_names_the_right_one(small_config: Path) -> None:
    (small_config / "models").symlink_to("model")
    (fault,) = faults_of(small_config, "models=large")
    assert fault.startswith("unknown group 'models', did you mean 'model'?")


def test_a_slot_that_does_not_exist_names_the_one_that_does(small_config: Path) -> None:
    (fault,) = faults_of(small_config, "compressor@them=l1")
    assert fault.startswith("unknown group 'compressor@them', did you mean 'compressor@then'?")


def test_several_values_without_a_sweep_say_how_to_mean_it(small_config: Path) -> None:
    expected = "'seed=1,2' has several values; -m runs each, [a,b] makes a list"
    assert faults_of(small_config, "seed=1,2") == [expected]


def test_a_mode_that_sweeps_by_itself_takes_several_values(small_config: Path) -> None:
    assert faults_of(small_config, "mode=many", "seed=1,2") == []


def test_a_broken_default_is_told_though_no_override_is_wrong(small_config: Path) -> None:
    (small_config / "model" / "small.yaml").unlink()
    (fault,) = faults_of(small_config)
    assert "model/small" in fault


def test_what_cannot_be_read_is_told_and_the_rest_is_read() -> None:
    overrides, faults = parse(["seed", "a=[1", "seed=3"])
    assert [override.input_line for override in overrides] == ["seed=3"]
    assert [fault.split(" (")[0] for fault in faults] == [
        "expected key=value, got 'seed'",
        "expected key=value, got 'a=[1'",
    ]


@pytest.mark.parametrize(
    "argument",
    [
        "compressor=[l1,l2]",
        "compressor@then=[l1]",
        "+compressor@x=[l1]",
        "compressor=choice([l1],l2)",
    ],
)
def test_a_list_of_files_is_refused_with_what_to_do(small_config: Path, argument: str) -> None:
    (fault,) = refused(parse([argument])[0], small_config)
    assert fault.startswith(f"{argument!r} would merge the files of a list into one")
    assert "compressor=a compressor@then=b" in fault


@pytest.mark.parametrize("argument", ["mode=here,many", "mode=choice(here,many)", "mode=glob(*)"])
def test_a_sweep_over_modes_is_refused(small_config: Path, argument: str) -> None:
    (fault,) = refused(parse([argument])[0], small_config)
    assert fault.startswith("a mode is where things run, not what is compared")


@pytest.mark.parametrize("value", ["null", "1", "0.5", "true"])
def test_what_is_no_name_of_a_file_is_refused(small_config: Path, value: str) -> None:
    (fault,) = refused(parse([f"compressor={value}"])[0], small_config)
    assert (
        fault
        == f"compressor is the name of a file, got 'compressor={value}'; there are: l1, l2, none"
    )


@pytest.mark.parametrize(
    "argument", ["datasets=[a,b]", "compressor=l1", "compressor=l1,l2", "seed=null", "~compressor"]
)
def test_nothing_else_is_refused(small_config: Path, argument: str) -> None:
    assert refused(parse([argument])[0], small_config) == []


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("allowed_targets=[a,b]", ["a", "b"]),
        ("allowed_targets=a", ["a"]),
        ("++allowed_targets=[a]", ["a"]),
        ("seed=1", []),
    ],
)
def test_the_strings_given_to_a_key_are_found(argument: str, expected: list[str]) -> None:
    assert given(parse([argument])[0], "allowed_targets") == expected


def test_settings_of_a_slot_that_is_swept_become_sweeps_of_one() -> None:
    line = ["compressor@then=l1,l2", "then.sparsity=[0.1]", "compressor.sparsity=0.2"]
    assert spread(parse(line)[0]) == {"then.sparsity=[0.1]": "then.sparsity=choice([0.1])"}


def test_sweeps_and_deletions_below_a_swept_group_stay_as_they_are() -> None:
    assert (
        spread(parse(["compressor=l1,l2", "compressor.sparsity=0.1,0.2", "~compressor.x"])[0]) == {}
    )
