"""Schema 2 manifests, upgraded to schema 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Json = dict[str, Any]  # an object as `json.loads` returns it

RANGE_FIELDS = {"least": "min", "usual": "opt", "most": "max"}
APPROXIMATE = "Approximate:"  # prefix of the notes that became `approximations`


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
