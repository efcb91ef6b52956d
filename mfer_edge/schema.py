"""JSON converted to dataclasses, whose fields are its schema; schema 2 manifests made schema 3."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

Json = dict[str, Any]  # an object as `json.loads` returns it

RANGE_FIELDS = {"least": "min", "usual": "opt", "most": "max"}
APPROXIMATE = "Approximate:"  # prefix of the notes that became `approximations`

NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    NoneType: "null",
}


def read_as(kind: Any, value: Any, name: str = "") -> Any:
    """Convert a value that `json.loads` returned to a type.

    Args:
        kind: a dataclass, `tuple[T, ...]`, `Mapping[str, T]`, `dict[str, T]`, one of these or
            None, `str`, `int`, `float`, `bool`, or a union of the last four and None. A dataclass
            needs all its fields and no others.
        name: of the field that holds the value, for the error message.

    Raises:
        ValueError: the value is of another type; the message names the field.
    """
    if isinstance(kind, type) and is_dataclass(kind):
        expect(isinstance(value, dict), name, value, "an object")
        hints = _field_types(kind)
        names = [field.name for field in fields(kind)]
        dot = f"{name}." if name else ""
        for missing in [field for field in names if field not in value]:
            raise ValueError(f"it has no {dot}{missing}")
        for unknown in [field for field in value if field not in names]:
            raise ValueError(f"{dot}{unknown} is unknown to this version of mfer-edge")
        return kind(**{field: read_as(hints[field], value[field], dot + field) for field in names})
    of = get_args(kind)
    if NoneType in of:
        if value is None:
            return None
        inner = [one for one in of if one not in NAMES]
        if inner:
            return read_as(inner[0], value, name)
    if get_origin(kind) is tuple:
        expect(isinstance(value, list), name, value, "a list")
        return tuple(read_as(of[0], item, f"{name}[{index}]") for index, item in enumerate(value))
    if get_origin(kind) in (Mapping, dict):
        expect(isinstance(value, dict), name, value, "an object")
        return {key: read_as(of[1], item, f"{name}.{key}") for key, item in value.items()}
    allowed = of or (kind,)  # of a union, or the type itself
    if float in allowed and type(value) is int:
        return float(value)
    expect(type(value) in allowed, name, value, " or ".join(NAMES[one] for one in allowed))
    return value


@cache
def _field_types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def expect(fits: bool, name: str, value: Any, what: str) -> None:
    """Raise if a condition on a value is false.

    Args:
        fits: the condition.
        name: of the field that holds the value.
        what: what the value has to be.

    Raises:
        ValueError: `fits` is false; the message names the field.
    """
    if not fits:
        raise ValueError(f"{name} is {json.dumps(value)[:40]}, not {what}")


def upgrade_schema_2(data: Json) -> Json:
    """Give a schema 2 manifest the fields of schema 3.

    An engine's `work` becomes `macs`; `least`, `usual` and `most` of a profile's shapes become
    `min`, `opt` and `max`; notes with the prefix `Approximate:` become `approximations`; the model
    has no identity. Everything else is left as it is, invalid values included: reading schema 3
    refuses them by name.

    Args:
        data: the manifest without its field `schema`; it is not changed.
    """
    notes = data.get("notes")
    texts = [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
    approximate = [note for note in texts if note.startswith(APPROXIMATE)]
    upgraded = {
        **data,
        "model": "",
        "approximations": [note.removeprefix(APPROXIMATE).strip() for note in approximate],
    }
    if isinstance(notes, list):
        upgraded["notes"] = [note for note in notes if note not in approximate]
    for name, change in (("engines", _upgrade_engine), ("plans", _upgrade_plan)):
        if name in data:
            upgraded[name] = _map_values(data[name], change)
    return upgraded


def upgrade_schema_3(data: Json) -> Json:
    """Make schema 4 of a manifest: face engines of schema 3 mirror crops themselves, or do without.

    What is missing or of another type is left as it is, for `read_as` to name.
    """
    crop = data.get("crop")
    if not isinstance(crop, dict):
        return data
    return {**data, "crop": {**crop, "mirror": False}}


def _upgrade_engine(engine: Json) -> Json:
    return _rename(engine, {"work": "macs"})


def _upgrade_plan(plan: Json) -> Json:
    profiles = plan.get("profiles")
    if not isinstance(profiles, list):
        return plan
    ranges = [_map_values(profile, lambda r: _rename(r, RANGE_FIELDS)) for profile in profiles]
    return {**plan, "profiles": ranges}


def _rename(fields: Json, names: dict[str, str]) -> Json:
    return {names.get(name, name): value for name, value in fields.items()}


def _map_values(value: Any, change: Callable[[Json], Json]) -> Any:
    """Change the objects among an object's values; anything else is returned unchanged."""
    if not isinstance(value, dict):
        return value
    return {name: change(x) if isinstance(x, dict) else x for name, x in value.items()}
