"""The cast of the demo: three sites, twelve stations, their prices and their drivers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

DOMAIN = "demo.example"


@dataclass(frozen=True)
class Place:
    """A site with its tariff's key."""

    name: str
    address: str
    postal_code: str
    city: str
    country: str
    latitude: str
    longitude: str
    time_zone: str
    tariff: str

    @property
    def zone(self) -> ZoneInfo:
        """Its time zone."""
        return ZoneInfo(self.time_zone)


@dataclass(frozen=True)
class Post:
    """A station: its identity and make, and the life it leads (a scenario of the simulator)."""

    identity: str
    name: str
    site: str
    version: str
    make: Make
    life: str = "charging"
    fate: str = "ok"


@dataclass(frozen=True)
class Make:
    """A model of charger. `connector` is OCPI's type, power in watts."""

    vendor: str
    model: str
    firmware: str
    connectors: int
    power_w: int
    connector: str

    @property
    def dc(self) -> bool:
        """Whether it charges with direct current."""
        return self.power_w > 43_000


PILLAR = Make("Voltwerk", "Pillar 22", "2.3.1", 2, 22_000, "IEC_62196_T2")
RAPID = Make("Nordlade", "Rapid 150", "5.0.2", 2, 150_000, "IEC_62196_T2_COMBO")
WALL = Make("Lumo", "Wall 11", "1.8.0", 1, 11_000, "IEC_62196_T2")

BERLIN = Place(
    "Berlin Gleisdreieck", "Luckenwalder Straße 4", "10963", "Berlin", "DE",
    "52.499430", "13.374460", "Europe/Berlin", "city-ac",
)  # fmt: skip
LISBON = Place(
    "Lisboa Oriente", "Avenida Dom João II 15", "1990-086", "Lisboa", "PT",
    "38.767760", "-9.098930", "Europe/Lisbon", "fast-dc",
)  # fmt: skip
HELSINKI = Place(
    "Helsinki Kalasatama", "Hermannin rantatie 5", "00580", "Helsinki", "FI",
    "60.187340", "24.979370", "Europe/Helsinki", "harbour",
)  # fmt: skip
PLACES = (BERLIN, LISBON, HELSINKI)

POSTS = (
    Post("BER-01", "Gleisdreieck 1", BERLIN.name, "1.6", PILLAR),
    Post("BER-02", "Gleisdreieck 2", BERLIN.name, "1.6", PILLAR, "quiet"),
    Post("BER-03", "Gleisdreieck 3", BERLIN.name, "2.0.1", PILLAR, "quiet", "installation-failed"),
    Post("BER-04", "Gleisdreieck 4", BERLIN.name, "2.0.1", PILLAR),
    Post("LIS-01", "Oriente rápido 1", LISBON.name, "2.0.1", RAPID),
    Post("LIS-02", "Oriente rápido 2", LISBON.name, "2.1", RAPID, "quiet"),
    Post("LIS-03", "Oriente 3", LISBON.name, "1.6", PILLAR, "flaky-network"),
    Post("LIS-04", "Oriente 4", LISBON.name, "2.1", PILLAR, "quiet"),
    Post("HEL-01", "Kalasatama pika", HELSINKI.name, "2.1", RAPID),
    Post("HEL-02", "Kalasatama 2", HELSINKI.name, "1.6", WALL, "faulty"),
    Post("HEL-03", "Kalasatama 3", HELSINKI.name, "2.0.1", WALL),
    Post("HEL-04", "Kalasatama 4", HELSINKI.name, "2.1", WALL),
)


@dataclass(frozen=True)
class Driver:
    """A person with a card; `account` is the house account that pays for them, if any."""

    name: str
    tag: str
    account: str = ""

    @property
    def email(self) -> str:
        """Their address in the demo's own domain."""
        return f"{self.name.split()[0].lower()}@{DOMAIN}"


FLEET, HOST = "Spreekurier GmbH", "Kalasatama Housing Co-op"
DRIVERS = (
    Driver("Ada Brandt", "04A1B2C3D4E5F1", FLEET),
    Driver("Bilal Demir", "04A1B2C3D4E5F2", FLEET),
    Driver("Clara Vogel", "04A1B2C3D4E5F3", FLEET),
    Driver("Duarte Nunes", "04A1B2C3D4E5F4"),
    Driver("Elina Korhonen", "04A1B2C3D4E5F5", HOST),
    Driver("Fabio Reis", "04A1B2C3D4E5F6", FLEET),
    Driver("Greta Lindholm", "04A1B2C3D4E5F7", HOST),
    Driver("Hugo Salo", "04A1B2C3D4E5F8", HOST),
)
BLOCKED_TAG = "04DEADBEEF0001"  # a lost card


def tariff(key: str, words: str, vat: float, elements: list[dict[str, Any]]) -> dict[str, Any]:
    """An OCPI 2.3.0 tariff object whose prices include the tax: what a driver reads and pays."""
    for element in elements:
        for part in element["price_components"]:
            part.setdefault("vat", vat)
            part.setdefault("step_size", 1)
    return {
        "country_code": "DE",
        "party_id": "DMO",
        "id": key,
        "currency": "EUR",
        "tax_included": "YES",
        "tariff_alt_text": [{"language": "en", "text": words}],
        "elements": elements,
        "last_updated": "2026-01-01T00:00:00Z",
    }


def part(kind: str, price: float, step: int = 1) -> dict[str, Any]:
    """A price component: ENERGY a kWh, TIME and PARKING_TIME an hour, FLAT once."""
    return {"type": kind, "price": price, "step_size": step}


TARIFFS = (
    tariff(
        "city-ac", "City AC", 19.0,
        [
            {"price_components": [part("ENERGY", 0.49)]},
            {  # 0.10 a minute once a place has been taken for four hours
                "price_components": [part("PARKING_TIME", 6.0, 60)],
                "restrictions": {"min_duration": 14_400},
            },
        ],
    ),
    tariff(
        "fast-dc", "Fast DC", 23.0,
        [{"price_components": [part("ENERGY", 0.59), part("PARKING_TIME", 12.0, 60)]}],
    ),
    tariff(
        "harbour", "Harbour", 25.5,
        [
            {
                "price_components": [part("ENERGY", 0.39)],
                "restrictions": {"start_time": "22:00", "end_time": "06:00"},
            },
            {"price_components": [part("ENERGY", 0.49)]},
        ],
    ),
)  # fmt: skip
