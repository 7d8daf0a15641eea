"""JSON to frozen dataclasses and back, refusing everything that is not exactly as declared.

Parsers at a trust border must agree on what a document says (RFC 8259 leaves duplicate keys and
NaN open), so both are refused here, as are unknown fields, missing fields and wrong types. The
error names the field by its path, such as ``graphs.user_model.inputs.mask.shape``.
"""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class StrictError(ValueError):
    """A document is not what it should be; ``path`` leads to the part that is wrong."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path}: {what}" if path else what)
        self.path = path
        self.what = what


def loads(text: bytes | str) -> Any:
    """Parse JSON, refusing duplicate keys, NaN and Infinity.

    Raises:
        StrictError: not JSON, or JSON that two readers could read differently.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")  # json.loads would guess, and take UTF-16 as well
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except StrictError:
        raise
    except (ValueError, RecursionError) as error:
        raise StrictError("", f"not JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise StrictError(twice, "appears twice")
    return result


def _no_constant(name: str) -> Any:
    raise StrictError("", f"{name} is not a JSON number")


def from_json(kind: type[T], value: Any, path: str = "") -> T:
    """Turn parsed JSON into ``kind``: a dataclass, or a tuple, mapping, union or scalar of such.

    Raises:
        StrictError: the value is not exactly of that kind.
    """
    return _convert(kind, value, path)  # type: ignore[no-any-return]


def to_json(value: Any) -> Any:
    """The JSON shape of dataclasses, mappings, tuples and scalars."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value.value if isinstance(value, Enum) else value


@lru_cache(maxsize=64)
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _convert(kind: Any, value: Any, path: str) -> Any:  # noqa: PLR0911 - one line a kind
    origin = get_origin(kind)
    if is_dataclass(kind):
        return _record(kind, value, path)  # type: ignore[arg-type]
    if origin in (types.UnionType, Union):
        return _union(get_args(kind), value, path)
    if origin is Literal:
        if value not in get_args(kind) or isinstance(value, bool):
            raise StrictError(path, f"must be one of {', '.join(map(str, get_args(kind)))}")
        return value
    if origin is tuple:
        return _tuple(get_args(kind), value, path)
    if origin is Mapping:
        return _mapping(get_args(kind)[1], value, path)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum(kind, value, path)
    return _scalar(kind, value, path)


def _record(kind: type, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise StrictError(path, f"must be an object, not {_name(value)}")
    hints = _hints(kind)
    unknown = sorted(value.keys() - hints.keys())
    if unknown:
        known = ", ".join(hints)
        raise StrictError(_join(path, unknown[0]), f"is not a field; fields are {known}")
    result: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in value:
            result[field.name] = _convert(
                hints[field.name], value[field.name], _join(path, field.name)
            )
        elif field.default is MISSING and field.default_factory is MISSING:
            raise StrictError(_join(path, field.name), "is missing")
    return kind(**result)


def _union(kinds: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    if len(others) == 1:
        return _convert(others[0], value, path)
    for kind in others:
        try:
            return _convert(kind, value, path)
        except StrictError:
            continue
    raise StrictError(path, f"must be one of {', '.join(map(str, others))}")


def _tuple(kinds: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise StrictError(path, f"must be a list, not {_name(value)}")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_convert(kinds[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if len(value) != len(kinds):
        raise StrictError(path, f"must have {len(kinds)} entries, not {len(value)}")
    pairs = zip(kinds, value, strict=True)
    return tuple(_convert(kind, item, f"{path}[{i}]") for i, (kind, item) in enumerate(pairs))


def _mapping(kind: Any, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise StrictError(path, f"must be an object, not {_name(value)}")
    return {_scalar(str, k, path): _convert(kind, v, _join(path, k)) for k, v in value.items()}


def _enum(kind: type[Enum], value: Any, path: str) -> Enum:
    for member in kind:
        if type(member.value) is type(value) and member.value == value:  # true is not 1
            return member
    raise StrictError(path, f"must be one of {', '.join(str(m.value) for m in kind)}")


def _scalar(kind: Any, value: Any, path: str) -> Any:
    if kind is Any:
        return value
    if kind is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            raise StrictError(path, "is too large for a number") from None
    if type(value) is not kind:
        raise StrictError(path, f"must be {_WORDS.get(kind, kind.__name__)}, not {_name(value)}")
    if kind is float and not math.isfinite(value):
        raise StrictError(path, "must be a finite number")
    if kind is str and not value.isascii() and _SURROGATE.search(value):
        raise StrictError(path, "holds half a character (a lone surrogate)")
    return value


_SURROGATE = re.compile("[\ud800-\udfff]")
"""JSON can spell what no encoding can store."""
_WORDS = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


def _name(value: Any) -> str:
    if value is None:
        return "null"
    return {dict: "an object", list: "a list", **_WORDS}.get(type(value), type(value).__name__)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
