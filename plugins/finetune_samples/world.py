"""Skerrow, a harbour town that does not exist: its people, ships, streets and goods.

Everything is drawn from `random.Random` with a seed, in a fixed order, so that two machines get the same town. Names
have accents, and some an emoji, as real names do, and because offsets must stay right with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Self

TOWN = "Skerrow"

FIRST_NAMES = (
    "Zoë", "Åsa", "José", "Łucja", "Çağla", "Noël", "Sørine", "Inês", "Bram", "Oda", "Marit", "Tobias", "Renée",
    "Kwame", "Ludo", "Hanne", "Piet", "Ysolde", "Goran", "Mirela", "Anselm", "Dagny", "Esi", "Florian", "Greet",
    "Ivo", "Jorun", "Katya", "Leif", "Nadia", "Osk", "Petra", "Quill", "Rasmus", "Signe", "Thora", "Ulla", "Vesna",
    "Wim", "Xenia",
)  # fmt: skip
FAMILY_NAMES = (
    "Tarrow", "Hask", "Pellam", "Ørsund", "Varga", "Ndiaye", "Çelik", "Śliwa", "Ferreira", "Okonedo", "Brandt",
    "Lamprey", "Quist", "Müller", "Stavely", "Corrigan", "Dunmore", "Eskola", "Fenwright", "Garrod", "Holm",
    "Iversen", "Jansdotter", "Kestrel", "Lindgård", "Marrow", "Nørgaard", "Oakes", "Peña", "Rook", "Skarsgate",
    "Thistlewood", "Underhay", "Vasquez", "Wray", "Yarrow",
)  # fmt: skip
SHIP_ADJECTIVES = (
    "Grey", "Patient", "Second", "Northern", "Quiet", "Silver", "Faithful", "Crooked", "Bright", "Old", "Merry",
    "Salted", "Wandering", "Little", "Proud", "Amber",
)  # fmt: skip
SHIP_NOUNS = (
    "Heron", "Lantern", "Promise", "Widow", "Gannet", "Compass", "Sister", "Thistle", "Otter", "Bell", "Magpie",
    "Anchor", "Comet", "Plover", "Saint", "Herring",
)  # fmt: skip
FOREIGN_SHIPS = (
    "Étoile Filante", "Søstjerne", "Señora Luz", "Żuraw", "Große Freiheit", "Maré Alta", "Fjällräv", "Île Verte",
    "Albatros Ñ", "Håbet",
)  # fmt: skip
SHIP_KINDS = ("trawler", "barge", "schooner", "ferry", "cutter", "lugger", "ketch", "brig")
QUAYS = (
    "Salt Quay", "Rope Quay", "North Mole", "Fishmarket Steps", "Customs Quay", "Lantern Pier", "Widow's Landing",
    "Coal Wharf", "Brewer's Wharf", "Mermaid Slip", "Old Dock", "Tar Basin",
)  # fmt: skip
STREETS = (
    "Gull Street", "Capstan Row", "Saint Olaf's Lane", "Tallow Street", "Barrel Alley", "Netmakers' Court",
    "Long Stair", "Bakehouse Lane", "Pilot Street", "Rue du Phare", "Chandler's Yard", "Upper Ropewalk",
)  # fmt: skip
HOUSES = (
    "Blue Crab 🦀", "Drowned Bell", "Café Zoë", "Three Lamps", "Octopus Arms 🐙", "Weighhouse", "Bread Cellar",
    "Old Lighthouse", "Casa Peña", "Mended Net", "Whale and Whistle 🐋", "Pilots' Hall", "Kestrel's Rest",
    "Sailors' Chapel", "Kaffehus Ørn ☕", "Gilded Cod", "Ice House", "Rope Loft",
)  # fmt: skip
PORTS = (
    "Port Almery", "Vinterhavn", "São Telmo", "Brackwater", "Göllnitz", "Cape Dorrit", "Île d'Or", "Tarn Island",
    "Mosswick", "Kalvø", "East Haddle", "Puerto Nuez", "Rannoch Bar", "Ostrów",
)  # fmt: skip
GOODS = (
    "salt", "herring", "oak planks", "barley", "lamp oil", "wool", "oranges", "roof slates", "cider", "rope", "coal",
    "dried cod", "honey", "window glass", "candles", "potatoes", "tin", "coffee", "sailcloth", "cheese",
)  # fmt: skip
THINGS = (
    "an umbrella", "a brass compass", "a leather satchel", "a fiddle", "a straw hat", "a bunch of keys", "a spyglass",
    "a grey blanket", "a wedding ring", "a sea chest", "a pair of spectacles", "a copper kettle", "a prayer book",
    "a walking stick", "a silver watch", "an oak box",
)  # fmt: skip
TRADES = (
    "cooper", "chandler", "sailmaker", "net mender", "baker", "mapmaker", "lamplighter", "ferryman", "pilot",
    "schoolteacher", "clockmaker", "midwife", "rope maker", "smith", "brewer", "letter writer", "piano tuner",
    "bookbinder",
)  # fmt: skip
COLOURS = (
    "red", "dark green", "white", "ochre", "pale blue", "black", "yellow", "rust brown", "violet", "sea green",
)  # fmt: skip
FIGURES = (
    "a sleeping fox", "a gilded swan", "a bearded saint", "a one-eyed mermaid", "a laughing child", "a white horse",
    "a crowned pike", "a bishop with a fish", "an open hand", "a two-headed gull",
)  # fmt: skip
INSTRUMENTS = (
    "the fiddle", "the concertina", "the drum", "the church organ", "the flute", "the hurdy-gurdy", "the double bass",
    "the tin whistle",
)  # fmt: skip
DISHES = (
    "smoked eel", "barley soup", "honey gâteau", "salt cod with potatoes", "mussel pie", "rye bread with herring",
    "sardine stew", "pea soup", "jalapeño chowder", "plum cake",
)  # fmt: skip
WINDS = (
    "a northerly", "a south-westerly", "an easterly", "a stiff breeze", "a light westerly", "half a gale",
    "squalls from the north-west", "a warm southerly",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
HOURS = ("five", "six", "seven", "eight", "nine", "ten", "eleven", "noon", "one", "two", "three", "four")
SMALL = (
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "a dozen", "fifteen", "twenty", "thirty",
    "forty", "fifty",
)  # fmt: skip

SEED = 1729
"""Seed of the default town."""


@dataclass(frozen=True, kw_only=True)
class World:
    """One random town: kind of name → all names of that kind."""

    names: Mapping[str, tuple[str, ...]]

    @classmethod
    def draw(cls, seed: int) -> Self:
        """Return the town of a seed."""
        rng = Random(f"skerrow/{seed}")
        people = [f"{first} {family}" for first in FIRST_NAMES for family in FAMILY_NAMES]
        ships = [f"{adjective} {noun}" for adjective in SHIP_ADJECTIVES for noun in SHIP_NOUNS]
        fixed = {
            "kind": SHIP_KINDS, "quay": QUAYS, "street": STREETS, "house": HOUSES, "port": PORTS, "goods": GOODS,
            "thing": THINGS, "trade": TRADES, "colour": COLOURS, "figure": FIGURES, "instrument": INSTRUMENTS,
            "dish": DISHES, "wind": WINDS, "day": DAYS, "month": MONTHS, "hour": HOURS, "few": SMALL,
        }  # fmt: skip
        return cls(
            names={
                "person": tuple(rng.sample(people, 160)),
                "ship": (*rng.sample(ships, 60), *FOREIGN_SHIPS),
                **fixed,
                "year": tuple(str(year) for year in range(1801, 1939)),
                "number": tuple(str(number) for number in range(12, 98)),
            }
        )


@lru_cache(maxsize=4)
def world(seed: int) -> World:
    """Return the town of a seed; it is drawn only once."""
    return World.draw(seed)
