import importlib

import pytest

command = importlib.import_module("benchmarks.command")


def asked(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, str]:
    monkeypatch.setattr("sys.argv", ["script.py", *arguments])
    return command.options_of("what it does", {"rounds": "2"}, optional=("only",))


def test_what_is_not_given_has_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch) == {"rounds": "2"}
    assert asked(monkeypatch, "only=a=b", "rounds=") == {"rounds": "", "only": "a=b"}


@pytest.mark.parametrize("argument", ["--help", "round=3", "help"])
def test_any_other_option_ends_with_the_text(
    monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    with pytest.raises(SystemExit, match="what it does"):
        asked(monkeypatch, argument)
