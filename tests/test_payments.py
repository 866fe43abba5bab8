"""The payment state machine against the sandbox, through the official SDK."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from billing import alarms, payments, reconciliation, start, steps
from billing.models import Payment
from billing.sandbox import control
from billing.sandbox.engine import Sandbox
from billing.transitions import BadAmount, Busy, NotAllowed, NotReady, PaymentsOff, ProviderDown
from monitoring.models import Incident, Session, Severity
from stations import commands, journal
from stations.models import Command, Connector, Entry, Station, Token
from tests import make, paying

pytestmark = pytest.mark.django_db
State = Payment.State


def due_now(payment: Payment) -> None:
    """Let everything that waits be due."""
    past = timezone.now() - dt.timedelta(seconds=1)
    Payment.objects.filter(pk=payment.pk, next_try_at__isnull=False).update(next_try_at=past)


def path(payment: Payment) -> list[str]:
    """The states a payment went through."""
    moves = payment.transitions.order_by("id").values_list("from_state", "to_state")
    return [to for before, to in moves if before != to]


# --- the plain road -----------------------------------------------------------------------------


def test_a_driver_pays_charges_and_is_charged_what_was_used(box: Sandbox) -> None:
    payment = paying.held(box)
    assert payment.capture_before is not None
    command = payment.start_command
    assert command is not None
    assert command.name == "remote_start"
    assert command.args["token_uid"] == payment.start_token
    paying.session_of(payment)
    assert payment.session is not None

    payment = payments.capture(payment, 1234)

    assert payment.state == State.CAPTURED
    assert (payment.captured_minor, payment.due_minor) == (1234, 1234)
    intent = paying.intent(box, payment)
    assert (intent["status"], intent["amount_received"]) == ("succeeded", 1234)
    assert path(payment) == ["created", "authorizing", "authorized", "capturing", "captured"]
    kinds = Entry.objects.filter(subject=f"payment-{payment.pk}").values_list("kind", flat=True)
    assert list(kinds.order_by("id")) == [
        "payment.created", "payment.authorizing", "payment.authorized", "payment.capturing",
        "payment.captured",
    ]  # fmt: skip


def test_the_token_of_a_start_fits_ocpp_16_and_is_accepted_once(box: Sandbox) -> None:
    payment = paying.held(box)
    uid = payment.start_token
    assert uid is not None
    assert len(uid) <= 20
    token = Token.objects.get(uid=uid)
    assert (token.type, token.status, token.max_sessions) == ("Central", "accepted", 1)


def test_the_price_in_force_is_frozen_when_the_driver_pays(box: Sandbox) -> None:
    with pytest.raises(NotReady, match="no price"):
        paying.begin(tariff_snapshot=None)


def test_a_cost_above_the_hold_captures_the_hold_and_tells_people(box: Sandbox) -> None:
    payment = paying.held(box, hold_minor=3000)
    paying.session_of(payment)
    payment = payments.capture(payment, 7000)
    assert payment.state == State.CAPTURED
    assert (payment.captured_minor, payment.due_minor) == (3000, 7000)
    alert = Entry.objects.get(kind="payment.alerted")
    assert (alert.data["code"], alert.data["short_minor"]) == ("due_above_hold", 4000)


@pytest.mark.parametrize("due", [0, 20, 49])
def test_nothing_or_less_than_the_minimum_releases_the_hold(box: Sandbox, due: int) -> None:
    payment = paying.held(box)
    paying.session_of(payment)
    payment = payments.capture(payment, due)
    assert (payment.state, payment.captured_minor, payment.due_minor) == (State.CANCELED, 0, due)
    assert paying.intent(box, payment)["status"] == "canceled"
    assert paying.calls(box, "payment_intents.capture") == []


def test_nothing_is_captured_without_a_session(box: Sandbox) -> None:
    payment = paying.held(box)
    with pytest.raises(NotAllowed):
        payments.capture(payment, 1234)
    assert paying.intent(box, payment)["status"] == "requires_capture"


def test_capturing_twice_collects_once(box: Sandbox) -> None:
    payment = paying.held(box)
    paying.session_of(payment)
    payments.capture(payment, 1234)
    payment = payments.capture(payment, 2222)
    assert payment.captured_minor == 1234
    assert len(paying.calls(box, "payment_intents.capture")) == 1


def test_no_provider_is_called_inside_a_transaction(box: Sandbox) -> None:
    payment = paying.held(box)
    with transaction.atomic(), pytest.raises(RuntimeError, match="inside a transaction"):
        steps.refresh(payment.pk, "test")


# --- what a driver meets ------------------------------------------------------------------------


def test_a_declined_card_frees_the_connector_and_another_card_pays(box: Sandbox) -> None:
    begun = paying.begin()
    intent = paying.intent_of(begun.payment)
    control.pay(box, intent, "pm_card_visa_chargeDeclined")
    payment = payments.returned(begun.payment)
    assert (payment.state, payment.last_error_code) == (State.FAILED, "generic_decline")
    control.pay(box, intent)
    payment = payments.returned(payment)
    assert payment.state == State.AUTHORIZED
    assert path(payment)[-3:] == ["failed", "authorizing", "authorized"]


def test_three_declines_close_the_intent(box: Sandbox) -> None:
    begun = paying.begin()
    for _ in range(3):
        card = "pm_card_visa_chargeDeclinedInsufficientFunds"
        control.pay(box, paying.intent_of(begun.payment), card)
        payment = payments.returned(begun.payment)
    assert payment.state == State.CANCELED
    assert paying.intent(box, payment)["status"] == "canceled"


def test_three_d_secure_is_waited_for(box: Sandbox) -> None:
    begun = paying.begin()
    intent = paying.intent_of(begun.payment)
    control.pay(box, intent, "pm_card_authenticationRequired")
    assert payments.returned(begun.payment).state == State.REQUIRES_ACTION
    control.authenticate(box, intent, passed=True)
    assert payments.returned(begun.payment).state == State.AUTHORIZED


def test_refusing_at_the_bank_is_a_decline(box: Sandbox) -> None:
    begun = paying.begin()
    intent = paying.intent_of(begun.payment)
    control.pay(box, intent, "pm_card_authenticationRequired")
    payments.returned(begun.payment)
    control.authenticate(box, intent, passed=False)
    payment = payments.returned(begun.payment)
    assert payment.state == State.FAILED
    assert payment.last_error_code == "payment_intent_authentication_failure"


def test_an_unpaid_attempt_ends_after_fifteen_minutes(box: Sandbox) -> None:
    begun = paying.begin()
    Payment.objects.update(deadline_at=timezone.now() - dt.timedelta(seconds=1))
    reconciliation.tick()
    begun.payment.refresh_from_db()
    assert begun.payment.state == State.CANCELED
    assert paying.intent(box, begun.payment)["status"] == "canceled"


def test_the_driver_gives_up_before_the_start(box: Sandbox) -> None:
    payment = paying.held(box)
    payment = payments.cancel(payment)
    assert payment.state == State.CANCELED
    assert paying.intent(box, payment)["status"] == "canceled"
    assert Token.objects.get(uid=payment.start_token).status == Token.Status.BLOCKED
    assert Command.objects.get(pk=payment.start_command_id).status == Command.Status.CANCELED


def test_a_running_session_cannot_be_cancelled_only_stopped(box: Sandbox) -> None:
    payment = paying.held(box)
    paying.session_of(payment)
    with pytest.raises(NotAllowed, match="stop charging"):
        payments.cancel(payment)


def test_an_offline_station_takes_no_money(box: Sandbox) -> None:
    connector = paying.connector()
    Station.objects.update(connected=False)
    connector.station.refresh_from_db()
    with pytest.raises(NotReady, match="offline"):
        paying.begin(connector)
    assert box.store.calls() == []


def test_a_busy_connector_takes_no_money(box: Sandbox) -> None:
    connector = paying.connector()
    connector.status = Connector.Status.CHARGING
    with pytest.raises(NotReady, match="not free"):
        paying.begin(connector)
    connector.status = Connector.Status.AVAILABLE
    make.session(connector.station, state=Session.State.ACTIVE, closed_at=None)
    with pytest.raises(NotReady, match="charging"):
        paying.begin(connector)
    assert box.store.calls() == []


def test_a_second_driver_is_told_that_the_connector_is_taken(box: Sandbox) -> None:
    connector = paying.connector()
    paying.begin(connector)
    with pytest.raises(Busy):
        paying.begin(connector)
    assert len(paying.calls(box, "payment_intents.create")) == 1


def test_an_attempt_left_lying_gives_way_but_a_paid_one_does_not(box: Sandbox) -> None:
    connector = paying.connector()
    old = timezone.now() - dt.timedelta(minutes=4)
    first = paying.begin(connector).payment
    Payment.objects.filter(pk=first.pk).update(created_at=old)
    second = paying.begin(connector).payment
    first.refresh_from_db()
    assert first.state == State.CANCELED
    control.pay(box, paying.intent_of(second))
    Payment.objects.filter(pk=second.pk).update(created_at=old)
    with pytest.raises(Busy):  # the money arrived, though nobody told us yet
        paying.begin(connector)
    second.refresh_from_db()
    assert second.state == State.AUTHORIZED


def test_a_late_payment_for_a_connector_that_went_to_somebody_else_is_given_back(
    box: Sandbox,
) -> None:
    connector = paying.connector()
    first = paying.begin(connector).payment
    control.pay(box, paying.intent_of(first), "pm_card_visa_chargeDeclined")
    first = payments.returned(first)
    assert first.state == State.FAILED
    second = paying.held(box, connector)
    control.pay(box, paying.intent_of(first))
    first = payments.returned(first)
    assert (first.state, paying.intent(box, first)["status"]) == (State.CANCELED, "canceled")
    assert "connector taken meanwhile" in first.transitions.values_list("event", flat=True)
    second.refresh_from_db()
    assert second.state == State.AUTHORIZED


@pytest.mark.parametrize("amount", [0, 49, 100_000_000])
def test_amounts_that_no_card_takes_are_refused_before_anything(box: Sandbox, amount: int) -> None:
    with pytest.raises(BadAmount):
        paying.begin(hold_minor=amount)
    assert Payment.objects.count() == 0


def test_without_keys_paying_is_off(settings: Any) -> None:
    settings.STRIPE_API_KEY, settings.PAYMENT_SANDBOX = "", False
    with pytest.raises(PaymentsOff):
        paying.begin()


def test_putting_it_on_account_needs_no_card() -> None:
    payment = paying.begin(provider="account").payment
    assert payment.state == State.AUTHORIZED
    paying.session_of(payment)
    payment = payments.capture(payment, 1234)
    assert (payment.state, payment.captured_minor) == (State.CAPTURED, 1234)
    other = paying.begin(provider="account").payment
    assert payments.cancel(other).state == State.CANCELED


def test_the_link_to_the_live_page_opens_its_payment_only(box: Sandbox) -> None:
    begun = paying.begin()
    assert payments.by_live_token(begun.live_token) == begun.payment
    assert payments.by_live_token("x") is None
    assert begun.live_token not in str(Payment.objects.values().get())
    assert "secret" not in repr(begun)


# --- the start ----------------------------------------------------------------------------------


def test_a_refused_start_releases_the_money_at_once(box: Sandbox) -> None:
    payment = paying.held(box)
    command = payment.start_command
    assert command is not None
    Command.objects.filter(pk=command.pk).update(status=Command.Status.SENT)
    commands.finish(command.pk, Command.Status.REJECTED)
    journal.catch_up()
    payment.refresh_from_db()
    assert payment.state == State.CANCELED
    assert paying.intent(box, payment)["status"] == "canceled"


def test_no_answer_to_the_start_waits_for_the_deadline(box: Sandbox) -> None:
    payment = paying.held(box)
    command = payment.start_command
    assert command is not None
    Command.objects.filter(pk=command.pk).update(status=Command.Status.SENT)
    commands.finish(command.pk, Command.Status.TIMED_OUT)
    journal.catch_up()
    payment.refresh_from_db()
    assert payment.state == State.AUTHORIZED
    Payment.objects.update(deadline_at=timezone.now() - dt.timedelta(seconds=1))
    reconciliation.tick()
    payment.refresh_from_db()
    assert payment.state == State.CANCELED


def test_a_session_is_bound_by_its_token_at_its_own_station_only(box: Sandbox) -> None:
    payment = paying.held(box)
    elsewhere = make.session(make.station(), token_uid=payment.start_token, closed_at=None)
    assert start.payment_of(elsewhere) is None
    here = make.session(
        payment.connector.station, token_uid=(payment.start_token or "").lower(), closed_at=None
    )
    with transaction.atomic():
        journal.record("session.started", here, token_uid=here.token_uid)
    journal.catch_up()
    payment.refresh_from_db()
    assert payment.session_id == here.pk


def test_a_session_is_bound_by_its_remote_start_id_where_it_has_no_token(box: Sandbox) -> None:
    payment = paying.held(box)
    session = make.session(
        payment.connector.station, remote_start_id=start.remote_start_id(payment.pk)
    )
    assert start.payment_of(session) == payment


def test_one_payment_pays_for_one_session(box: Sandbox) -> None:
    payment = paying.held(box)
    first = paying.session_of(payment)
    second = make.session(payment.connector.station, token_uid=payment.start_token)
    assert start.payment_of(first) == payment
    assert start.payment_of(second) is None


def test_a_session_that_begins_after_the_release_is_stopped(box: Sandbox) -> None:
    payment = payments.cancel(paying.held(box))
    session = paying.session_of(payment)
    assert payment.session is None
    stop = Command.objects.get(name="remote_stop")
    assert stop.args == {"ref": session.ref}
    assert Entry.objects.get(kind="payment.alerted").data["code"] == "session_after_release"


# --- when the network or Stripe fails -----------------------------------------------------------


def test_a_lost_answer_to_authorize_leaves_no_intent_behind(box: Sandbox) -> None:
    control.fault(box, "payment_intents.create", "lose_reply")
    with pytest.raises(ProviderDown):
        paying.begin()
    payment = Payment.objects.get()
    assert payment.state == State.CANCELED
    assert [i["status"] for i in box.store.all("payment_intent")] == ["canceled"]


def test_the_sdk_repeats_a_lost_authorize_with_the_same_key(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.providers.stripe.NETWORK_RETRIES", 2)
    control.fault(box, "payment_intents.create", "lose_reply")
    begun = paying.begin()
    assert begun.payment.state == State.AUTHORIZING
    assert len(box.store.all("payment_intent")) == 1


@pytest.mark.parametrize(
    "fault", ["lose_request", "lose_reply", "rate_limit", "error_500", "error_500_after"]
)
def test_a_failed_capture_is_repeated_until_it_is_collected_once(box: Sandbox, fault: str) -> None:
    payment = paying.held(box)
    paying.session_of(payment)
    control.fault(box, "payment_intents.capture", fault)
    payment = payments.capture(payment, 1234)
    due_now(payment)
    reconciliation.tick()
    payment.refresh_from_db()
    assert (payment.state, payment.captured_minor) == (State.CAPTURED, 1234)
    assert paying.intent(box, payment)["amount_received"] == 1234


@pytest.mark.parametrize(
    "fault", ["lose_request", "lose_reply", "rate_limit", "error_500", "error_500_after"]
)
def test_a_failed_release_is_repeated_until_it_is_released(box: Sandbox, fault: str) -> None:
    payment = paying.held(box)
    control.fault(box, "payment_intents.cancel", fault)
    payment = payments.cancel(payment)
    due_now(payment)
    reconciliation.tick()
    payment.refresh_from_db()
    assert payment.state == State.CANCELED
    assert paying.intent(box, payment)["status"] == "canceled"


def test_retries_wait_longer_and_longer_and_then_people_hear(box: Sandbox) -> None:
    payment = paying.held(box)
    paying.session_of(payment)
    control.fault(box, "payment_intents.capture", "rate_limit", 4)
    payments.capture(payment, 1234)
    waits = []
    for _ in range(4):
        payment.refresh_from_db()
        assert payment.next_try_at is not None
        waits.append(round((payment.next_try_at - timezone.now()).total_seconds()))
        due_now(payment)
        reconciliation.tick()
    payment.refresh_from_db()
    assert waits == [60, 300, 1800, 7200]
    assert payment.state == State.CAPTURED
    assert Entry.objects.get(kind="payment.alerted").data["code"] == "capturing_stuck"


def test_a_refused_capture_is_read_and_tried_in_a_new_round(box: Sandbox) -> None:
    payment = paying.held(box)
    paying.session_of(payment)
    # A key that was spent on other parameters is refused for ever.
    key = f"csms:{payment_environment()}:pay:{payment.pk}:capture:1234:1"
    box.store.keep_answer("", key, "another request", 200, {})
    payment = payments.capture(payment, 1234)
    assert payment.state == State.CAPTURE_FAILED
    due_now(payment)
    reconciliation.tick()
    payment.refresh_from_db()
    assert (payment.state, payment.captured_minor, payment.round) == (State.CAPTURED, 1234, 2)


def payment_environment() -> str:
    from billing.providers.stripe import required

    return required().environment


def test_the_providers_own_minimum_turns_into_a_release(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = paying.held(box)
    paying.session_of(payment)
    monkeypatch.setattr("billing.sandbox.payment_intents.MINIMUM", {"eur": 100})
    payment = payments.capture(payment, 70)
    assert (payment.state, payment.captured_minor) == (State.CANCELED, 0)


def test_a_hold_that_expired_before_collection_goes_to_finance(box: Sandbox) -> None:
    payment = paying.held(box)
    paying.session_of(payment)
    control.fault(box, "payment_intents.capture", "lose_request")
    payments.capture(payment, 1234)
    control.expire(box, paying.intent_of(payment))
    due_now(payment)
    reconciliation.tick()
    payment.refresh_from_db()
    assert (payment.state, payment.captured_minor) == (State.CAPTURE_EXPIRED, 0)
    assert Entry.objects.get(kind="payment.alerted").data["code"] == "capture_expired"


def test_an_unused_hold_that_expires_is_simply_released(box: Sandbox) -> None:
    payment = paying.held(box)
    control.advance(box, 8 * 86400)
    payment = payments.returned(payment)
    assert payment.state == State.CANCELED


def test_a_session_is_stopped_a_day_before_its_hold_expires(box: Sandbox) -> None:
    payment = paying.held(box)
    session = paying.session_of(payment)
    Payment.objects.update(
        capture_before=timezone.now() + dt.timedelta(hours=23), next_try_at=timezone.now()
    )
    reconciliation.tick()
    reconciliation.tick()
    stop = Command.objects.get(name="remote_stop")
    assert stop.args == {"ref": session.ref}


def test_a_capture_in_the_dashboard_is_seen(box: Sandbox) -> None:
    payment = paying.held(box)
    paying.session_of(payment)
    stripe = client()
    stripe.v1.payment_intents.capture(
        paying.intent_of(payment), {"amount_to_capture": 500}, {"idempotency_key": "csms:test:1"}
    )
    payment = payments.returned(payment)
    assert (payment.state, payment.captured_minor) == (State.CAPTURED, 500)


def client() -> Any:
    from billing.providers.stripe import client

    return client()


def test_a_revoked_key_is_told_at_once_and_takes_no_money(box: Sandbox) -> None:
    from billing.providers.stripe import required

    control.revoke_key(box, required().api_key)
    with pytest.raises(ProviderDown):
        paying.begin()
    assert Entry.objects.get(kind="payment.alerted").data["code"] == "key_refused"
    control.revoke_key(box, None)


def test_what_needs_people_is_an_incident_and_heals(box: Sandbox) -> None:
    from billing.providers.stripe import required

    control.revoke_key(box, required().api_key)
    for _ in range(2):
        with pytest.raises(ProviderDown):
            paying.begin()
    incident = Incident.objects.get()
    assert "refuses our key" in incident.summary
    assert incident.severity == Severity.PAGE
    control.revoke_key(box, None)
    payment = paying.held(box)
    incident.refresh_from_db()
    assert incident.state == Incident.State.RESOLVED
    paying.session_of(payment)
    control.fault(box, "payment_intents.capture", "rate_limit", 4)
    payments.capture(payment, 1234)
    for _ in range(3):
        due_now(payment)
        reconciliation.tick()
    stuck = Incident.objects.exclude(pk=incident.pk).get()
    assert stuck.state != Incident.State.RESOLVED
    due_now(payment)
    reconciliation.tick()
    stuck.refresh_from_db()
    assert stuck.state == Incident.State.RESOLVED


def test_every_alarm_has_a_sentence() -> None:
    text = "".join(path.read_text() for path in Path(alarms.__file__).parent.glob("*.py"))
    codes = set(re.findall(r'alert\(\s*[\w.]+,\s*"(\w+)"', text))
    assert len(codes) >= 10
    assert codes <= set(alarms.ALARMS)
    for healed in alarms.HEALED_BY.values():
        assert set(healed) <= set(alarms.ALARMS)


# --- the hourly sweep ---------------------------------------------------------------------------


def test_a_stray_hold_with_our_mark_is_released_and_told(box: Sandbox) -> None:
    payment = paying.begin().payment
    # We closed our row, and the driver's card form still reserved the money.
    Payment.objects.filter(pk=payment.pk).update(state=State.CANCELED)
    control.pay(box, paying.intent_of(payment))
    reconciliation.sweep()
    assert paying.intent(box, payment)["status"] == "canceled"
    assert Entry.objects.get(kind="payment.alerted").data["code"] == "money_without_session"


def test_the_sweep_leaves_other_installations_alone(box: Sandbox, settings: Any) -> None:
    begun = paying.begin()
    control.pay(box, paying.intent_of(begun.payment))
    settings.PUBLIC_URL = "https://another.example"
    reconciliation.sweep()
    assert paying.intent(box, begun.payment)["status"] == "requires_capture"


def test_each_payment_is_collected_in_its_own_account(box: Sandbox) -> None:
    payment = paying.begin(account="acct_host").payment
    control.pay(box, paying.intent_of(payment))
    payment = payments.returned(payment)
    paying.session_of(payment)
    payment = payments.capture(payment, 1000)
    assert payment.state == State.CAPTURED
    assert box.store.account_of(paying.intent_of(payment)) == "acct_host"


def test_a_second_card_is_noticed_without_any_webhook(box: Sandbox) -> None:
    payment = paying.begin().payment
    control.pay(box, paying.intent_of(payment), "pm_card_visa_chargeDeclined")
    assert payments.returned(payment).state == State.FAILED
    control.pay(box, paying.intent_of(payment))
    reconciliation.tick()
    payment.refresh_from_db()
    assert payment.state == State.FAILED  # the driver's page would have looked by now
    Payment.objects.update(updated_at=timezone.now() - dt.timedelta(minutes=3))
    reconciliation.tick()
    payment.refresh_from_db()
    assert payment.state == State.AUTHORIZED
