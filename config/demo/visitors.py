"""Guests who come now: they scan a code, pay on the page and charge, over HTTP alone."""

from __future__ import annotations

import asyncio
import logging
import random
import re

import httpx
from channels.db import database_sync_to_async

from billing import refunds
from billing.models import Payment
from billing.providers import stripe
from config.demo.places import DOMAIN, POSTS
from stations.models import Connector

log = logging.getLogger(__name__)

PAUSE_S, STAY_S = (100, 200), (60, 150)
CARDS = ("pm_card_visa",) * 8 + ("pm_card_visa_chargeDeclined",)
REFUND_SHARE = 0.2


async def come_and_go(url: str, draw: random.Random, *, after_s: float) -> None:
    """One guest after the other, until cancelled."""
    number = 0
    await asyncio.sleep(after_s)
    while True:
        number += 1
        try:
            await _visit(url, draw, f"visitor{number}@{DOMAIN}")
        except (httpx.HTTPError, LookupError) as error:
            log.info("A guest went away: %r", error)
        await asyncio.sleep(draw.uniform(*PAUSE_S))


async def _visit(url: str, draw: random.Random, email: str) -> None:
    code = await database_sync_to_async(_free_code)(draw)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as browser:
        page = (await browser.get(f"/c/{code}")).text
        fields = {
            "csrfmiddlewaretoken": _field(page, "csrfmiddlewaretoken"),
            "cap": _field(page, "cap"),
            "email": email,
        }
        begun = (await browser.post(f"/c/{code}/pay", data=fields)).json()
        if "client_secret" not in begun:
            raise LookupError(begun.get("error", "no reservation"))
        intent = begun["client_secret"].split("_secret_")[0]
        await browser.post(
            f"/sandbox/stripe/v1/payment_intents/{intent}/confirm",
            data={
                "key": stripe.required().publishable_key,
                "client_secret": begun["client_secret"],
                "payment_method": draw.choice(CARDS),
            },
        )
        live = httpx.URL(begun["return_url"]).path
        await browser.get(live, params={"payment_intent": intent}, follow_redirects=True)
        await asyncio.sleep(draw.uniform(*STAY_S))
        page = (await browser.get(live)).text
        if f"{live}/stop" in page:
            token = _field(page, "csrfmiddlewaretoken")
            await browser.post(f"{live}/stop", data={"csrfmiddlewaretoken": token})
    if draw.random() < REFUND_SHARE:
        await asyncio.sleep(45)
        await database_sync_to_async(_give_back)(intent)


def _field(page: str, name: str) -> str:
    """The value of a form field on a page; raises LookupError where the page has none."""
    tag = re.search(rf'<input[^>]*name="{name}"[^>]*>', page)
    value = re.search(r'value="([^"]*)"', tag.group(0)) if tag else None
    if value is None:
        raise LookupError(f"The page has no field {name}.")
    return value.group(1)


def _free_code(draw: random.Random) -> str:
    """The code on a free connector, first at fast stations without other visitors."""
    quiet = [post.identity for post in POSTS if post.life == "quiet" and post.make.dc]
    free = Connector.objects.filter(status=Connector.Status.AVAILABLE, station__connected=True)
    codes = list(free.filter(station__identity__in=quiet).order_by("pk").values_list("code"))
    codes = codes or list(free.order_by("pk").values_list("code"))
    if not codes:
        raise LookupError("Every connector is taken.")
    return str(draw.choice(codes)[0])


def _give_back(intent: str) -> None:
    """Support refunds what was collected."""
    payment = Payment.objects.filter(provider_ref=intent).first()
    if payment is not None and payment.state == Payment.State.CAPTURED:
        refunds.request(payment, refunds.remaining_minor(payment), "The display was dark.")
