from core.listing import listing


def test_rows_stand_under_their_headings_in_columns() -> None:
    text = listing(("name", "text"), [("one", [("a", "b")]), ("two", iter([("long", "[c]")]))])
    assert text.splitlines() == ["name  text", "ONE", "a     b", "TWO", "long  [c]"]


def test_a_column_that_is_unbroken_leaves_the_others_the_rest() -> None:
    text = listing(("name", "text"), [("", [("a" * 150, "b " * 60)])], unbroken=("name",))
    lines = text.splitlines()
    assert lines[2].startswith("a" * 150 + "  b b")
    assert max(map(len, lines)) <= 200
    assert text.count("b") == 60
