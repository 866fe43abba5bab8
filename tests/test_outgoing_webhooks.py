"""Signed webhooks: what a receiver can check, and where they do not reach."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest
import time_machine
from django.utils import timezone

from monitoring import incidents, notices, webhooks
from monitoring.models import Contact, Notice, Severity
from monitoring.webhooks import TransportError


class Receiver(BaseHTTPRequestHandler):
    """Keeps what it gets; answers as told."""

    got: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []
    answer: ClassVar[int] = 200
    location: ClassVar[str] = ""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Receiver.got.append((self.path, dict(self.headers), body))
        self.send_response(Receiver.answer)
        if Receiver.location:
            self.send_header("Location", Receiver.location)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def receiver(settings: Any) -> Iterator[str]:
    """A server on loopback that this installation trusts."""
    settings.WEBHOOK_PRIVATE_HOSTS = ["127.0.0.1"]
    Receiver.got, Receiver.answer, Receiver.location = [], 200, ""
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook?a=1"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),  # cloud metadata
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False),  # 6to4 of 127.0.0.1
        ("64:ff9b::7f00:1", False),  # NAT64
    ],
)
def test_only_addresses_of_the_public_internet_are_public(address: str, public: bool) -> None:
    assert webhooks.is_public(address) is public


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://localhost:8443/x",
        "https://[::1]/",
        "https://2130706433/",  # 127.0.0.1 as a number
        "https://0x7f.1/",
        "http://93.184.216.34/",  # not encrypted
        "file:///etc/passwd",
        "gopher://93.184.216.34/",
        "https:///nothing",
    ],
)
def test_our_own_network_and_other_schemes_are_refused_for_good(url: str) -> None:
    with pytest.raises(TransportError) as refusal:
        webhooks.post(url, {}, secret="k", message_id="m")
    assert refusal.value.permanent


def test_a_name_with_any_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(host: str, port: int, **kwargs: Any) -> list[Any]:
        return [(2, 1, 6, "", ("93.184.216.34", port)), (2, 1, 6, "", ("10.0.0.5", port))]

    monkeypatch.setattr("socket.getaddrinfo", both)
    with pytest.raises(TransportError, match=r"private network \(10.0.0.5\)"):
        webhooks.post("https://example.com/", {}, secret="k", message_id="m")


def test_the_connection_goes_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that resolves to something else the second time gains nothing."""
    asked = []

    def once(host: str, port: int, **kwargs: Any) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", ("93.184.216.34", port))]

    def connect(address: tuple[str, int], timeout: float) -> Any:
        assert address == ("93.184.216.34", 443)
        raise OSError("unreachable")

    monkeypatch.setattr("socket.getaddrinfo", once)
    monkeypatch.setattr("socket.create_connection", connect)
    with pytest.raises(TransportError, match="unreachable") as failure:
        webhooks.post("https://example.com/", {}, secret="k", message_id="m")
    assert not failure.value.permanent
    assert asked == ["example.com"]


def test_the_receiver_can_check_who_sent_it_and_when(receiver: str) -> None:
    with time_machine.travel(1_750_000_000, tick=False):
        webhooks.post(receiver, {"b": 1, "a": "ü"}, secret="key", message_id="notice-7")
    ((path, headers, body),) = Receiver.got
    assert path == "/hook?a=1"
    assert json.loads(body) == {"a": "ü", "b": 1}
    wanted = hmac.new(b"key", b"1750000000." + body, hashlib.sha256).hexdigest()
    assert headers["X-Signature"] == f"t=1750000000,v1={wanted}"
    assert headers["X-Message-Id"] == "notice-7"


@pytest.mark.parametrize(
    ("answer", "permanent"),
    [(302, True), (400, True), (410, True), (408, False), (429, False), (500, False), (503, False)],
)
def test_a_refusal_is_for_good_and_a_failure_is_tried_again(
    receiver: str, answer: int, permanent: bool
) -> None:
    Receiver.answer, Receiver.location = answer, receiver + "&followed"
    with pytest.raises(TransportError) as failure:
        webhooks.post(receiver, {}, secret="k", message_id="m")
    assert failure.value.permanent is permanent
    assert len(Receiver.got) == 1  # redirects are not followed


@pytest.mark.django_db
def test_an_incident_reaches_a_webhook_and_comes_again_with_the_same_id(receiver: str) -> None:
    Contact.objects.create(name="Hook", channel="webhook", url=receiver, secret="s")
    incident = incidents.raise_("x", "Something", severity=Severity.CRITICAL)
    Receiver.answer = 503
    notices.plan()
    notices.deliver()
    Receiver.answer = 204
    later = timezone.now() + timedelta(seconds=31)
    notices.deliver(later)
    assert Notice.objects.get().state == "sent"
    first, second = Receiver.got
    assert first[1]["X-Message-Id"] == second[1]["X-Message-Id"]
    payload = json.loads(second[2])
    assert (payload["event"], payload["incident"]["id"]) == ("opened", incident.pk)
    assert payload["incident"]["severity"] == "critical"


@pytest.mark.django_db
def test_a_webhook_into_our_network_fails_at_once_and_says_why() -> None:
    Contact.objects.create(name="Hook", channel="webhook", url="https://10.0.0.1/", secret="s")
    incidents.raise_("x", "Something", severity=Severity.CRITICAL)
    notices.plan()
    notices.deliver()
    notice = Notice.objects.get()
    assert (notice.state, notice.attempts) == ("failed", 1)
    assert "private network" in notice.error
