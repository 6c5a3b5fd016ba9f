"""Checks the types of values that were read from JSON."""

import types
import typing
from collections.abc import Mapping
from typing import Any

_SIMPLE = {float: (int, float), int: (int,), str: (str,), bool: (bool,)}


def check_fields(kind: type, content: Mapping[str, Any]) -> None:
    """Raises TypeError if a value in `content` has not the type of its field of the dataclass `kind`: strings, numbers and
    lists of them, and JSON objects with names as keys. A function is in no JSON, so a value for one is wrong too. A field
    that is a dataclass is left to its own check."""
    hints = typing.get_type_hints(kind)
    for name, value in content.items():
        if name not in hints:
            raise TypeError(f"unknown entry {name}")
        if not _fits(value, hints[name]):
            raise TypeError(f"{name} has a wrong type")


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in arguments)
    if hint is type(None):
        return value is None
    if hint in _SIMPLE:
        return isinstance(value, _SIMPLE[hint]) and (hint is bool or not isinstance(value, bool))
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_fits(each, arguments[0]) for each in value)
    if origin in (Mapping, dict):
        return isinstance(value, dict) and all(_fits(each, arguments[1]) for each in value.values())
    return hint is Any or (isinstance(hint, type) and isinstance(value, dict))
