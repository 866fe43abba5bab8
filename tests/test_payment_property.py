"""Whatever goes wrong, and in whatever order: after reconciliation no money is lost or doubled.

Each run is a small world from a seed: drivers pay, decline, walk away; the network and Stripe fail
before and after the commit; our process dies before and after a call; webhooks are dropped,
doubled and shuffled; sessions start, are refused, end with any price; refunds are asked for. Then
everything is reconciled twice and the invariants have to hold. `CSMS_PAYMENT_RUNS` sets how many
worlds are tried.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import os
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.db.models import F
from django.utils import timezone

from billing import money, payments, reconciliation, refunds, steps
from billing.models import Payment, PaymentTransition, ProviderEvent, Refund
from billing.models.payments import RefundState
from billing.providers.stripe import Stripe
from billing.sandbox import control
from billing.sandbox.engine import Sandbox
from billing.transitions import COLLECTED, PaymentError
from monitoring.models import Session
from stations import commands, journal
from stations.models import Command
from tests import paying

pytestmark = [pytest.mark.django_db, pytest.mark.slow]
State = Payment.State

RUNS = int(os.environ.get("CSMS_PAYMENT_RUNS", "12"))
DUE = (0, 20, 1234, 1234, 2999, 2999, 7000, 7000)
CARDS = (
    *["pm_card_visa"] * 8, "pm_card_mastercard", "pm_card_authenticationRequired",
    "pm_card_visa_chargeDeclined", "pm_card_refundFail", "pm_card_pendingRefund",
)  # fmt: skip
CALLS = ("authorize", "capture", "cancel", "refund", "read")


class Crash(Exception):
    """Our process dies here."""


class World:
    """A few drivers, and everything that can happen to them."""

    def __init__(self, box: Sandbox, seed: int) -> None:
        self.box = box
        self.rng = random.Random(seed)
        self.due: dict[Any, int] = {}  # by payment, once its session ended
        self.asked: Counter[Any] = Counter()
        self.expired = False

    def live(self) -> None:
        """Every driver has a story; the stories are cut short, repeated and interleaved."""
        with self.crashing():
            for _ in range(self.rng.randint(2, 4)):
                self.trouble(0.1)
                self.attempt(lambda: paying.begin(hold_minor=3000))
            stories = [self.story(payment) for payment in Payment.objects.all()]
            while stories := [story for story in stories if story]:
                payment_step = self.rng.choice(stories).pop(0)
                self.trouble(0.35)
                self.attempt(payment_step)

    def story(self, payment: Payment) -> list[Any]:
        """What becomes of one payment, told as steps."""
        usual: list[Any] = [
            self.pay, self.hear, self.hear, self.hear, self.charger, self.hear, self.end, self.hear,
            self.end, self.refund, self.hear, self.refund, self.hear,
        ]  # fmt: skip
        told = [step for step in usual if self.rng.random() < 0.92]
        if self.rng.random() < 0.15:
            told.insert(self.rng.randrange(len(told) + 1), self.give_up)
        if self.rng.random() < 0.2:
            told.insert(0, self.pay)
        return [lambda step=step: step(_get(payment)) for step in told]

    def hear(self, payment: Payment) -> None:
        """We hear of it somehow, or not at all."""
        self.rng.choice(
            [
                lambda: payments.returned(payment),
                lambda: payments.returned(payment),
                lambda: paying.deliver(self.box),
                reconciliation.tick,
                lambda: None,
            ]
        )()

    def attempt(self, action: Any) -> None:
        with contextlib.suppress(Crash, PaymentError):
            action()

    @contextlib.contextmanager
    def crashing(self) -> Iterator[None]:
        """Our own process dies now and then, just before a call or just after its answer."""
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                real = getattr(Stripe, name)

                def call(me: Stripe, *args: Any, _real: Any = real) -> Any:
                    dies = self.rng.random()
                    if dies < 0.06:
                        raise Crash
                    answer = _real(me, *args)
                    if dies < 0.12:
                        raise Crash
                    return answer

                patch.setattr(Stripe, name, call)
            yield

    def trouble(self, chance: float) -> None:
        """Something is about to go wrong outside."""
        if self.rng.random() < chance:
            operation = self.rng.choice(["payment_intents.*", "refunds.*", "*.capture"])
            control.fault(self.box, operation, self.rng.choice(control.FAULTS))
        if self.rng.random() < 0.2:
            control.webhooks(
                self.box, drop=self.rng.choice([0, 0.5, 1]), duplicate=self.rng.choice([0, 0.7]),
                shuffle=self.rng.random() < 0.5,
            )  # fmt: skip
        if self.rng.random() < 0.004:
            control.advance(self.box, 8 * 86400)
            self.expired = True

    # --- what can happen ---

    def pay(self, payment: Payment) -> None:
        if payment.provider_ref is None or paying.intent(self.box, payment)["status"] not in (
            "requires_payment_method", "requires_action",
        ):  # fmt: skip
            return
        intent = control.pay(self.box, payment.provider_ref, self.rng.choice(CARDS))
        if intent["status"] == "requires_action" and self.rng.random() < 0.8:
            control.authenticate(self.box, intent["id"], passed=self.rng.random() < 0.8)

    def charger(self, payment: Payment) -> None:
        """Start what was ordered, or refuse it."""
        command = payment.start_command
        if command is None or payment.session_id is not None:
            return
        if command.status in (Command.Status.QUEUED, Command.Status.SENT):
            Command.objects.filter(pk=command.pk).update(status=Command.Status.SENT)
            refused = self.rng.random() < 0.15
            commands.finish(
                command.pk, Command.Status.REJECTED if refused else Command.Status.ACCEPTED
            )
            journal.catch_up()
            if refused:
                return
        if not Session.objects.filter(token_uid=payment.start_token).exists():
            paying.session_of(payment)

    def end(self, payment: Payment) -> None:
        """The session ends and is priced; settlement asks for the money, as often as it likes."""
        if payment.session is None:
            return
        Session.objects.filter(pk=payment.session_id).update(
            state=Session.State.CLOSED, stopped_at=timezone.now(), closed_at=timezone.now()
        )
        self.due.setdefault(payment.pk, self.rng.choice(DUE))
        payments.capture(payment, self.due[payment.pk])

    def refund(self, payment: Payment) -> None:
        if payment.state in COLLECTED:
            refunds.request(payment, self.rng.choice([100, 500, payment.captured_minor]), "why not")

    def give_up(self, payment: Payment) -> None:
        payments.cancel(payment)

    # --- afterwards ---

    def settle(self) -> None:
        """The trouble ends, sessions end, time passes, and everything is reconciled twice."""
        control.clear_faults(self.box)
        for payment in Payment.objects.filter(session__isnull=False):
            self.due.setdefault(payment.pk, 1234)
            Session.objects.filter(pk=payment.session_id).update(
                state=Session.State.CLOSED, closed_at=timezone.now()
            )
        for _ in range(2):
            self.reconcile()

    def reconcile(self) -> None:
        control.advance(self.box, 60)
        past = timezone.now() - dt.timedelta(hours=1)
        for field in ("next_try_at", "deadline_at"):
            rows = Payment.objects.filter(**{f"{field}__isnull": False})
            rows.update(**{field: past})
        Payment.objects.update(updated_at=past)
        Refund.objects.filter(next_try_at__isnull=False).update(next_try_at=past)
        ProviderEvent.objects.update(received_at=past)
        reconciliation.tick()
        journal.catch_up()
        for payment in Payment.objects.filter(session__isnull=False, state=State.AUTHORIZED):
            payments.capture(payment, self.due[payment.pk])
        paying.deliver(self.box)
        reconciliation.sweep()
        journal.catch_up()

    def assert_books_agree(self) -> None:
        """The invariants."""
        intents = Counter(i["metadata"]["payment"] for i in self.box.store.all("payment_intent"))
        assert max(intents.values(), default=0) <= 1, "two intents for one payment"
        for intent in self.box.store.all("payment_intent"):
            assert intent["status"] in ("succeeded", "canceled"), f"a hold is left: {intent}"
        for payment in Payment.objects.all():
            self.check_payment(payment)
        given = Counter(r["metadata"]["refund"] for r in self.box.store.all("refund"))
        assert max(given.values(), default=0) <= 1, "a refund was made twice"
        assert set(given) <= {str(pk) for pk in Refund.objects.values_list("pk", flat=True)}

    def check_payment(self, payment: Payment) -> None:
        intent = paying.intent(self.box, payment) if payment.provider_ref else None
        received = intent["amount_received"] if intent else 0
        assert payment.captured_minor == received, "our books differ from Stripe's"
        due = self.due.get(payment.pk, 0)
        wanted = min(due, payment.hold_minor)
        if wanted < money.minimum_minor("EUR") or payment.session_id is None:
            wanted = 0
        lost = payment.state == State.CAPTURE_EXPIRED
        assert received == (0 if lost else wanted), f"{received} for {due}: {payment.state}"
        assert not lost or self.expired, "expired although no time passed"
        captures = payment.transitions.filter(to_state=State.CAPTURED, from_state=State.CAPTURING)
        assert captures.count() == (1 if received else 0)
        back = [
            r for r in self.box.store.all("refund") if r["payment_intent"] == payment.provider_ref
        ]
        arrived = sum(r["amount"] for r in back if r["status"] == "succeeded")
        assert payment.refunded_minor == arrived, "refunds differ from Stripe's"
        rows = payment.refunds.filter(state=RefundState.SUCCEEDED)
        assert sum(rows.values_list("amount_minor", flat=True)) == arrived
        assert payment.state in (
            State.CANCELED, State.CAPTURED, State.PARTIALLY_REFUNDED, State.REFUNDED,
            State.CAPTURE_EXPIRED,
        ), f"left in {payment.state}"  # fmt: skip


def _get(payment: Payment) -> Payment:
    return Payment.objects.select_related("session", "start_command", "connector").get(
        pk=payment.pk
    )


def assert_a_walk_ends_well(world: World, seed: int) -> None:
    """One world, from its seed, to its end; also on the books of those before it."""
    world.rng = random.Random(seed)
    world.live()
    world.settle()
    world.assert_books_agree()


@pytest.mark.parametrize("seed", range(RUNS))
def test_no_money_is_lost_or_doubled(box: Sandbox, seed: int) -> None:
    assert_a_walk_ends_well(World(box, seed), seed)


# --- the invariants are worth something: seeded bugs are caught ----------------------------------


def no_clamp(payment: Payment) -> bool:
    return steps._call(
        payment, "capture",
        lambda: steps.provider_of(payment).capture(payment, payment.due_minor or 0),
    )  # fmt: skip


SABOTAGE: dict[str, list[tuple[str, Any]]] = {
    "nothing is reconciled": [
        ("billing.reconciliation.tick", lambda: 0), ("billing.reconciliation.sweep", lambda: None),
    ],
    "a cost above the hold is asked for in full": [],
    "a failed start releases nothing": [
        ("billing.tasks.payments.cancel", lambda *_a: None),
    ],
    "a lost intent is not looked for": [
        ("billing.providers.stripe.Stripe.find", lambda *_a: None),
    ],
    "a random key for refunds": [],
}  # fmt: skip


def broken_refund(self: Stripe, refund: Refund) -> Any:
    Refund.objects.filter(pk=refund.pk).update(version=F("version") + 1)
    refund.refresh_from_db()
    return REAL_REFUND(self, refund)


REAL_REFUND = Stripe.refund


def assert_the_tour_ends_well(world: World) -> None:
    """One short walk past every trap: cost above the hold, lost intent, refused start, refund."""
    box = world.box
    control.webhooks(box, drop=1)
    rich = paying.held(box)
    paying.session_of(rich)
    world.due[rich.pk] = 7000
    payments.capture(rich, 7000)
    control.fault(box, "payment_intents.create", "lose_reply")
    world.attempt(paying.begin)
    refused = paying.held(box)
    assert refused.start_command is not None
    Command.objects.filter(pk=refused.start_command_id).update(status=Command.Status.SENT)
    commands.finish(refused.start_command.pk, Command.Status.REJECTED)
    control.fault(box, "payment_intents.cancel", "lose_request")
    journal.catch_up()
    back = paying.held(box)
    paying.session_of(back)
    world.due[back.pk] = 2999
    control.fault(box, "payment_intents.capture", "lose_reply")
    payments.capture(back, 2999)
    payments.returned(back)
    control.fault(box, "refunds.create", "lose_reply")
    world.attempt(lambda: refunds.request(back, 500, "why not"))
    world.settle()
    world.assert_books_agree()


def test_a_walk_past_every_trap_ends_well(box: Sandbox) -> None:
    assert_the_tour_ends_well(World(box, 0))


@pytest.mark.parametrize("bug", SABOTAGE)
def test_the_invariants_catch_a_seeded_bug(
    box: Sandbox, bug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for target, replacement in SABOTAGE[bug]:
        monkeypatch.setattr(target, replacement)
    if bug.startswith("a cost above"):
        monkeypatch.setitem(steps.STEPS, State.CAPTURING, no_clamp)
    if bug.startswith("a failed start"):
        monkeypatch.setitem(steps.STEPS, State.AUTHORIZED, lambda _payment: False)
    if bug.startswith("a random key"):
        monkeypatch.setattr(Stripe, "refund", broken_refund)
        monkeypatch.setattr(Stripe, "refunds", lambda _self, _payment: [])
    with pytest.raises(AssertionError):
        assert_the_tour_ends_well(World(box, 0))


def test_transitions_are_an_unbroken_chain(box: Sandbox) -> None:
    world = World(box, 99)
    world.live()
    world.settle()
    for payment in Payment.objects.all():
        rows = list(PaymentTransition.objects.filter(payment=payment).order_by("id"))
        assert rows[0].from_state == ""
        for before, after in itertools.pairwise(rows):
            assert after.from_state == before.to_state, [str(r) for r in rows]
        assert rows[-1].to_state == payment.state
