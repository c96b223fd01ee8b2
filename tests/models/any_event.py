"""Any instance of a record type that its own declared bounds allow, for laws about codecs and schemas."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-(2**53), 2**53)
_json = st.recursive(
    st.none() | st.booleans() | whole | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def any_event(struct: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Instances of a struct, every field chosen within its type."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return st.builds(struct, **{field.name: _any_of(field.type) for field in info.fields})


def _any_of(type_: inspect.Type) -> st.SearchStrategy[Any]:  # noqa: PLR0911 - a case a type
    match type_:
        case inspect.UnionType(types=types):
            return st.one_of([_any_of(each) for each in types])
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.VarTupleType(item_type=item):
            return st.lists(_any_of(item), max_size=3).map(tuple)
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(_any_of(key), _any_of(value), max_size=3)
        case inspect.IntType(ge=least, le=most):
            return st.integers(-(2**53) if least is None else least, 2**53 if most is None else most)
        case inspect.FloatType(ge=least, le=most) if least is not None:
            return st.floats(least, most)
        case inspect.StrType(pattern=str(pattern)):
            return st.from_regex(pattern, fullmatch=True)
        case inspect.StructType(cls=struct):
            return any_event(struct)
    plain = {
        inspect.NoneType: st.none(),
        inspect.BoolType: st.booleans(),
        inspect.FloatType: numbers,
        inspect.StrType: texts,
        inspect.AnyType: _json,
    }
    return plain[type(type_)]
