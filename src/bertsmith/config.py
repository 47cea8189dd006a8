"""Configurations: frozen dataclasses that turn into plain JSON and back, strictly.

A *part* is one choice at a plug point: an attention mask, a masking policy, an objective. Subclasses of an abstract part
register under a short `kind`, which is what files store (never an import path):

    class Mask(Part): ...                                  # the plug point
    @dataclass(frozen=True)
    class Causal(Mask, kind="causal"): ...                 # one part

    to_dict(Causal())                       -> {"kind": "causal"}
    from_dict(Mask, {"kind": "causal"})     -> Causal()
    override(recipe, ["stages.0.steps=50"]) -> the same recipe with another number

Every error names the dotted path, what is allowed there and the nearest name.
"""

import copy
import dataclasses
import functools
import json
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from bertsmith.errors import ConfigError, nearest

T = TypeVar("T")


class Part:
    """A dataclass that is chosen by its `kind`. Every plug point is a subclass without a kind."""

    kind: ClassVar[str] = ""
    _kinds: ClassVar[dict[str, type["Part"]]] = {}

    def __init_subclass__(cls, kind: str = "", **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if not kind:
            cls._kinds = {}  # a plug point keeps its own register
            return
        if kind in cls._kinds:
            raise TypeError(f"two parts of one plug point are called {kind!r}: {cls._kinds[kind]} and {cls}")
        cls.kind = kind
        cls._kinds[kind] = cls

    @classmethod
    def kinds(cls) -> dict[str, type["Part"]]:
        """All parts of this plug point, by kind."""
        return dict(cls._kinds)


def require(condition: bool, path: str, problem: str) -> None:  # noqa: FBT001
    """Raise `ConfigError` at `path` unless `condition` holds; for `__post_init__` checks of values."""
    if not condition:
        raise ConfigError(f"{path}: {problem}")


def to_dict(config: Any) -> Any:
    """The configuration as JSON values: dicts, lists, strings, numbers, booleans and None."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        kind = {"kind": config.kind} if isinstance(config, Part) and config.kind else {}
        return kind | {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {key: to_dict(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_dict(value) for value in config]
    return config


def from_dict(wanted: type[T], data: Any, path: str = "") -> T:
    """Build a `wanted` from JSON values. Unknown keys, missing keys and wrong types are `ConfigError`s with the path. What is
    annotated as `Any` is taken as it is."""
    try:
        return _build(wanted, data, path)
    except RecursionError:
        raise ConfigError(f"{path or 'the configuration'}: it is nested too deeply") from None


def override(config: T, assignments: Iterable[str]) -> T:
    """The same configuration with some values replaced, each given as `dotted.path=value`.

    A value is read as JSON where it parses as JSON (`3`, `0.1`, `true`, `{"kind": "causal"}`) and as text elsewhere. In a
    path, `*` is every entry of a list: `stages.*.batch_size=32`.
    """
    data = to_dict(config)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{assignment!r}: expected path=value, for example stages.0.steps=500")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        _assign(data, path.split("."), value, path)
    return from_dict(type(config), data)


def differences(one: Any, other: Any) -> list[tuple[str, str, str]]:
    """Where two configurations differ: (dotted path, value in `one`, value in `other`), "-" where there is none."""
    flat_one, flat_other = dict(_leaves(to_dict(one))), dict(_leaves(to_dict(other)))
    return [
        (path, flat_one.get(path, "-"), flat_other.get(path, "-"))
        for path in dict.fromkeys([*flat_one, *flat_other])
        if flat_one.get(path) != flat_other.get(path)
    ]


def _leaves(data: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(data, dict | list) and data:
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _leaves(value, f"{path}.{key}".lstrip("."))
    else:
        yield path, json.dumps(data)


def _assign(data: Any, keys: list[str], value: Any, path: str, start: int = 0) -> None:
    """Put `value` where `keys[start:]` lead from `data`, which is where those before them have led."""
    for depth, key in enumerate(keys[start:], start):
        here = ".".join(keys[:depth]) or "the configuration"
        if isinstance(data, list):
            if key == "*":
                for number in range(len(data)):
                    one = [*keys[:depth], str(number), *keys[depth + 1 :]]
                    _assign(data, one, copy.deepcopy(value), path, depth)
                return
            if not key.isdecimal() or int(key) >= len(data):
                raise ConfigError(f"{path}: {here} has entries 0 to {len(data) - 1} (* for all), not {key!r}")
            place: Any = int(key)
        elif isinstance(data, dict):
            if key not in data:
                raise ConfigError(f"{path}: {here} has no {key!r}.{nearest(key, data)}")
            place = key
        else:
            raise ConfigError(f"{path}: {here} is a single value and has no {key!r}")
        if depth == len(keys) - 1:
            data[place] = value
        else:
            data = data[place]


def _build(wanted: Any, data: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (types.UnionType, typing.Union):
        return _build_union(arguments, data, path)
    if origin is tuple:
        _expect(isinstance(data, list | tuple), path, "a list", data)
        wants = [arguments[0]] * len(data) if arguments[-1] is Ellipsis else arguments
        _expect(len(data) == len(wants), path, f"a list of {len(wants)}", data)
        parts = zip(wants, data, strict=True)
        return tuple(_build(want, value, f"{path}.{i}".lstrip(".")) for i, (want, value) in enumerate(parts))
    if origin in (dict, Mapping):
        _expect(isinstance(data, Mapping), path, "an object", data)
        return {key: _build(arguments[1], value, f"{path}.{key}".lstrip(".")) for key, value in data.items()}
    if origin is typing.Literal:
        if data not in arguments:
            raise ConfigError(f"{path}: {data!r} is not allowed.{nearest(str(data), map(str, arguments))}")
        return data
    if wanted is Any:
        return data
    if isinstance(wanted, type) and issubclass(wanted, Part):
        return _build_part(wanted, data, path)
    if dataclasses.is_dataclass(wanted):
        return _build_dataclass(wanted, data, path)
    if wanted is float and isinstance(data, int | float) and not isinstance(data, bool):
        _expect(abs(data) <= sys.float_info.max, path, "a finite number", data)  # NaN fails too
        return float(data)
    _expect(type(data) is wanted, path, f"a value of type {wanted.__name__}", data)
    return data


def _build_union(choices: tuple[Any, ...], data: Any, path: str) -> Any:
    if data is None and type(None) in choices:
        return None
    others = [choice for choice in choices if choice is not type(None)]
    if len(others) == 1:
        return _build(others[0], data, path)
    for choice in others:
        try:
            return _build(choice, data, path)
        except ConfigError:
            continue
    names = " or ".join(getattr(choice, "__name__", str(choice)) for choice in others)
    raise ConfigError(f"{path}: expected {names}, got {data!r}")


def _build_part(wanted: type[Part], data: Any, path: str) -> Any:
    _expect(isinstance(data, Mapping) and isinstance(data.get("kind"), str), path, 'an object with a "kind"', data)
    kinds = wanted.kinds()
    if data["kind"] not in kinds:
        raise ConfigError(
            f"{path}.kind: no part is called {data['kind']!r}.{nearest(str(data['kind']), kinds)}".lstrip(".")
        )
    part = kinds[data["kind"]]
    return _build_dataclass(part, {key: value for key, value in data.items() if key != "kind"}, path)


# Annotations are evaluated once, and never because of what a file holds.
_type_hints = functools.cache(typing.get_type_hints)


def _build_dataclass(wanted: Any, data: Any, path: str) -> Any:
    _expect(isinstance(data, Mapping), path, "an object", data)
    hints = _type_hints(wanted)
    fields = {field.name: field for field in dataclasses.fields(wanted)}
    for key in data:
        if key not in fields:
            raise ConfigError(f"{path}.{key}: there is no such key.{nearest(key, fields)}".lstrip("."))
    for name, field in fields.items():
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and name not in data:
            raise ConfigError(f"{path}.{name}: this key is required and missing".lstrip("."))
    values = {key: _build(hints[key], value, f"{path}.{key}".lstrip(".")) for key, value in data.items()}
    try:
        return wanted(**values)
    except ConfigError as error:  # a value out of range, found by __post_init__, which does not know where it stands
        raise ConfigError(f"{path}.{error}".lstrip(".")) from None


def _expect(condition: bool, path: str, expected: str, got: Any) -> None:  # noqa: FBT001
    if not condition:
        raise ConfigError(f"{path or 'the configuration'}: expected {expected}, got {got!r:.200}")
