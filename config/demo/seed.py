"""Puts the demo's cast into the database, once: what an operator would set up by hand."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from billing import tariffs
from billing.models import HouseAccount, Seller
from config.demo import places
from monitoring.models import Contact
from monitoring.models.health import Severity
from stations.models import Connector, Evse, Site, Station, Token, User


def done() -> bool:
    """Whether the cast is there."""
    return Site.objects.filter(name=places.BERLIN.name).exists()


@transaction.atomic
def seed(since: datetime) -> None:
    """Sites, stations, seller, tariffs (valid `since` then), drivers, tokens and house accounts."""
    for ocpi in places.TARIFFS:
        tariffs.publish(ocpi, valid_from=since - timedelta(days=1))
    sites = {}
    for place in places.PLACES:
        site = Site.objects.create(
            name=place.name,
            address=place.address,
            postal_code=place.postal_code,
            city=place.city,
            country=place.country,
            latitude=place.latitude,
            longitude=place.longitude,
            time_zone=place.time_zone,
            opening_hours="24/7",
            support_phone="+49 30 5550100",
        )
        tariffs.assign(place.tariff, site)
        sites[place.name] = site
    for post in places.POSTS:
        _station(post, sites[post.site])
    _seller()
    _people()


def _station(post: places.Post, site: Site) -> None:
    make = post.make
    station = Station.objects.create(
        identity=post.identity,
        name=post.name,
        site=site,
        public=True,
        version=post.version,
        vendor=make.vendor,
        model=make.model,
        firmware=make.firmware,
    )
    for number in range(1, make.connectors + 1):
        evse = Evse.objects.create(station=station, number=number)
        Connector.objects.create(
            station=station,
            evse=evse,
            number=1,
            type=make.connector,
            max_power_w=make.power_w,
        )


def _seller() -> None:
    Seller.objects.get_or_create(
        is_default=True,
        defaults={
            "name": "Demo Charging",
            "legal_name": "Demo Charging GmbH",
            "street": "Luckenwalder Straße 4",
            "postcode": "10963",
            "city": "Berlin",
            "country": "DE",
            "vat_id": "DE123456788",
            "register": "HRB 12345 Berlin",
            "email": f"billing@{places.DOMAIN}",
            "phone": "+49 30 5550100",
            "iban": "DE02120300000000202051",
            "bic": "BYLADEM1001",
            "time_zone": places.BERLIN.time_zone,
        },
    )


def _people() -> None:
    accounts = {
        places.FLEET: HouseAccount.objects.create(
            name=places.FLEET,
            legal_name=places.FLEET,
            street="Tempelhofer Ufer 11",
            postcode="10963",
            city="Berlin",
            country="DE",
            vat_id="DE987654329",
            reference="Cost centre 4711",
            email=f"accounts@{places.DOMAIN}",
            language="de",
        ),
        places.HOST: HouseAccount.objects.create(
            name=places.HOST,
            legal_name=places.HOST,
            street="Hermannin rantatie 5",
            postcode="00580",
            city="Helsinki",
            country="FI",
            email=f"housing@{places.DOMAIN}",
        ),
    }
    for driver in places.DRIVERS:
        user = User.objects.create_user(driver.email, name=driver.name)
        token = Token.objects.create(uid=driver.tag, user=user, label=f"Card of {driver.name}")
        if driver.account:
            accounts[driver.account].tokens.add(token)
    Token.objects.create(
        uid=places.BLOCKED_TAG, status=Token.Status.BLOCKED, label="Lost in the canteen"
    )


def watch() -> None:
    """Somebody who is told of incidents from now on; those of the past are old news."""
    Contact.objects.get_or_create(
        name="Night shift",
        defaults={"email": "nightshift@demo.example", "min_severity": Severity.TICKET},
    )
