"""JSON read as dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from mfer_edge.schema import read_as


@dataclass(frozen=True)
class Pet:
    name: str
    age: float | None
    legs: Mapping[str, int]


@dataclass(frozen=True)
class Owner:
    pet: Pet | None
    rooms: dict[str, float] | None


class TestReadAs:
    def test_reads_what_fits(self) -> None:
        read = read_as(tuple[Pet, ...], [{"name": "a", "age": 3, "legs": {"left": 2}}])
        assert read == (Pet("a", 3.0, {"left": 2}),)
        assert type(read[0].age) is float
        assert read_as(Pet, {"name": "a", "age": None, "legs": {}}).age is None

    def test_a_dataclass_or_none(self) -> None:
        owner = {"pet": {"name": "a", "age": 3, "legs": {}}, "rooms": {"hall": 2.5}}
        assert read_as(Owner, owner) == Owner(Pet("a", 3.0, {}), {"hall": 2.5})
        assert read_as(Owner, {"pet": None, "rooms": None}) == Owner(None, None)
        with pytest.raises(ValueError, match=r"pet is \[\], not an object"):
            read_as(Owner, {"pet": [], "rooms": None})
        with pytest.raises(ValueError, match=r"rooms.hall is null, not a number"):
            read_as(Owner, {"pet": None, "rooms": {"hall": None}})

    @pytest.mark.parametrize(
        ("value", "why"),
        [
            ({"age": 1, "legs": {}}, "it has no name"),
            ({"name": "a", "age": "1", "legs": {}}, 'age is "1", not a number or null'),
            ({"name": "a", "age": 1, "legs": {"l": 1.5}}, r"legs.l is 1.5, not a whole number"),
            ({"name": "a", "age": True, "legs": {}}, "age is true, not a number or null"),
            ({"name": "a", "age": 1, "legs": {}, "tail": 1}, "tail is unknown"),
            ([], r" is \[\], not an object"),
        ],
    )
    def test_names_what_does_not(self, value: object, why: str) -> None:
        with pytest.raises(ValueError, match=why):
            read_as(Pet, value)
