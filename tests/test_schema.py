"""Structure of what was read from a file: strict types, and one line that names the entry."""

import pytest

from icre.utils.errors import UserError
from icre.utils.schema import Closed, Open, parse


class Inner(Closed):
    number: float
    words: list[str]


class Outer(Open):
    inner: Inner
    flag: bool = False


WHOLE = {"inner": {"number": 1, "words": ["a"]}, "flag": True}


def test_what_fits_is_taken_and_further_entries_may_be_there():
    read = parse(Outer, WHOLE | {"more": 1}, "file")
    assert (read.inner.number, read.inner.words, read.flag) == (1.0, ["a"], True)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "file is no mapping"),
        ([], "file is no mapping"),
        ({}, "file has no inner"),
        ({"inner": {"number": 1}}, "file has no inner.words"),
        ({"inner": {"number": True, "words": []}}, "file has a wrong inner.number"),
        ({"inner": {"number": "1", "words": []}}, "file has a wrong inner.number"),
        ({"inner": {"number": 1, "words": "a"}}, "file has a wrong inner.words"),
        ({"inner": {"number": 1, "words": ["a", 2]}}, "file has a wrong inner.words.1"),
        ({"inner": {"number": 1, "words": [], "z": 0}}, "file has an unknown inner.z"),
        (WHOLE | {"flag": 1}, "file has a wrong flag"),
    ],
)
def test_what_does_not_fit_is_named(value, said):
    with pytest.raises(UserError) as caught:
        parse(Outer, value, "file")
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)
