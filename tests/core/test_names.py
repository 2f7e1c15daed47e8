import pytest

from core.names import metric_key, require_key, run_id, slug


def test_the_clean_view_is_left_out_of_a_key() -> None:
    assert metric_key("digits", "test", "accuracy") == "digits_test_accuracy"


def test_another_view_ends_the_key() -> None:
    assert metric_key("digits", "val", "ece", view="rotate_15") == "digits_val_ece_rotate_15"


@pytest.mark.parametrize(
    ("datamodule", "measured"),
    [("ImageNet", "accuracy"), ("digits", "top-1"), ("10digits", "accuracy"), ("digits", "a b")],
    ids=["capital", "hyphen", "digit first", "space"],
)
def test_a_key_that_is_not_lower_snake_case_is_refused(datamodule: str, measured: str) -> None:
    with pytest.raises(ValueError, match="in lower case, got"):
        metric_key(datamodule, "test", measured)


@pytest.mark.parametrize("key", ["digits_accuracy", "digits_test", "_test_x", "digits_testing_x"])
def test_a_key_without_its_three_parts_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="<datamodule>_<split>_<name>"):
        require_key(key)


def test_a_dataset_and_a_number_may_have_underscores() -> None:
    require_key("imagenet_a_val_worst_class_accuracy")


def test_an_unknown_split_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="train, val, test, got 'testing'"):
        metric_key("digits", "testing", "accuracy")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ResNet-50", "resnet_50"), ("a//b", "a_b"), ("../x", "x"), ("", "unnamed"), ("ü", "unnamed")],
)
def test_a_slug_is_a_safe_part_of_a_file_name(text: str, expected: str) -> None:
    assert slug(text) == expected


def test_a_run_id_keeps_ten_characters_of_the_digest() -> None:
    assert run_id("digits_cnn", "none", "abcdefghijklmnop") == "digits_cnn-none-abcdefghij"
