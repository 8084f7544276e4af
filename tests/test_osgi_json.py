"""The ``.cfg.json`` form of a configuration: types, comments, places of errors."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarfailover import osgi_json
from tarfailover.errors import ConfigError


def values_of(text: str) -> dict[str, Any]:
    return {name: entry.value for name, entry in osgi_json.parse(text, "f").items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", {}),
        ('{"a": "b"}', {"a": "b"}),
        ('{"a": 1, "b": 1.5, "c": true, "d": []}', {"a": 1, "b": 1.5, "c": True, "d": ()}),
        ('{"a:Integer": 1, "b:int": 2, "c:Long": 3}', {"a": 1, "b": 2, "c": 3}),
        ('{"a:Double": 1, "b:float": 2.5}', {"a": 1.0, "b": 2.5}),
        ('{"a:Boolean": false, "b:String": "x", "c:char": "y"}', {"a": False, "b": "x", "c": "y"}),
        ('{"a:String[]": ["x", "y"], "b:Collection<Integer>": [1]}', {"a": ("x", "y"), "b": (1,)}),
        ('// one\n{ /* two\n */ "a": "// no /* comment" }', {"a": "// no /* comment"}),
        ('{":configurator:ranking": 7, "a": 1, ":configurator:x": [1]}', {"a": 1}),
        ('{"a": "\\u00e9\\"\\\\"}', {"a": 'é"\\'}),
    ],
)
def test_values(text: str, expected: dict[str, Any]) -> None:
    found = values_of(text)
    assert found == expected
    assert [type(value) for value in found.values()] == [type(each) for each in expected.values()]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: the file must hold one object"),
        ("[]", "line 1: the file must hold one object"),
        ('{"a": 1} x', "nothing may follow the object"),
        ('{\n"a": 1\n"b": 2}', "line 3: a comma or } is missing"),
        ('{"a": 1,}', "a name begins with '}'"),
        ("{1: 2}", "a name in quotes must stand here"),
        ('{"a" 1}', "a colon is missing behind 'a'"),
        ('{\n\n"a": nothing}', "line 3: the value of a begins with 'n', which is not JSON"),
        ('{"a": NaN}', "which is not JSON"),
        ('{"a": null}', "the value of a is null; remove the property"),
        ('{"a": {"b": 1}}', "the value of a must be a text, a number, true or false"),
        ('{"a": [[1]]}', "the value of a must be a text, a number, true or false"),
        ('{"a": [1 2]}', "a comma or ] is missing in the list of a"),
        ('{"a": 1,\n"a": 2}', "line 2: a was already set in line 1; remove one of the two"),
        ('{"a": 1, "a:Long": 2}', "a was already set in line 1"),
        ('{"a:Integer": 2147483648}', "a: 2147483648 is no Integer"),
        ('{"a:Integer": 1.0}', "a: 1.0 is no Integer"),
        ('{"a:Integer": true}', "a: True is no Integer"),
        ('{"a:Boolean": "true"}', "a: 'true' is no Boolean"),
        ('{"a:Character": "xy"}', "a: 'xy' is no Character"),
        ('{"a:Date": "x"}', "a: 'x' is no Date"),
        ('{"a:String[]": "x"}', "a is a list, String[]; write [ … ]"),
        ('{"a:String": ["x"]}', "a is one String; write a:String[] for a list"),
        ('{"a": "b', "which is not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "which is not JSON"),
        ("{" + "[" * 60000, "a name must be a text"),
        ("/* {", "the file must hold one object"),
    ],
)
def test_refused_with_the_place(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        osgi_json.parse(text, "f")
    assert str(caught.value).startswith("f, line ")
    assert told in str(caught.value)


_SCALARS = st.text() | st.integers(-(2**63), 2**63 - 1) | st.booleans()
_NAMES = st.text().filter(lambda name: ":" not in name)


@given(st.dictionaries(_NAMES, _SCALARS | st.lists(_SCALARS)))
def test_what_json_writes_is_read(values: dict[str, Any]) -> None:
    expected = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    assert values_of(json.dumps(values)) == expected
    assert values_of(json.dumps(values, ensure_ascii=False, indent=2)) == expected


@given(st.text() | st.text('{}[]",:/*\\\n ax1'))
def test_any_text_gives_properties_or_an_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        osgi_json.parse(text, "f")


def test_a_file_is_read_as_the_other_form_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read"):
        osgi_json.read(tmp_path / "none.cfg.json")
    (tmp_path / "a.cfg.json").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n')
    assert list(osgi_json.read(tmp_path / "a.cfg.json")) == ["a"]
