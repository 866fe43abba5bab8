"""Passwords of stations and the limit on attempts."""

from __future__ import annotations

import base64
import time

from stations import security


def basic(user: str, password: str | bytes) -> bytes:
    secret = password if isinstance(password, bytes) else password.encode()
    return b"Basic " + base64.b64encode(user.encode() + b":" + secret)


def test_a_password_is_stored_only_as_a_salted_hash():
    first, second = security.hash_password("secret"), security.hash_password("secret")
    assert first != second
    assert "secret" not in first
    assert security.verify_password("secret", first)
    assert security.verify_password("secret", first)  # from memory
    assert not security.verify_password("Secret", first)
    assert not security.verify_password("", "")
    assert not security.verify_password("secret", "secret")


def test_the_user_name_must_be_the_identity():
    stored = security.hash_password("pw")
    assert security.may_connect("CP 1", stored, 1, basic("CP 1", "pw"), tls=False)
    assert not security.may_connect("CP 1", stored, 1, basic("CP 2", "pw"), tls=False)
    assert not security.may_connect("CP 1", stored, 1, basic("CP 1", "other"), tls=False)
    assert not security.may_connect("CP 1", stored, 1, None, tls=False)


def test_a_station_with_a_password_needs_it_even_in_profile_0():
    stored = security.hash_password("pw")
    assert not security.may_connect("CP", stored, 0, None, tls=False)
    assert security.may_connect("CP", "", 0, None, tls=False)
    assert not security.may_connect("CP", "", 1, basic("CP", ""), tls=False)


def test_profile_2_needs_tls():
    stored = security.hash_password("pw")
    assert not security.may_connect("CP", stored, 2, basic("CP", "pw"), tls=False)
    assert security.may_connect("CP", stored, 2, basic("CP", "pw"), tls=True)


def test_the_bytes_of_a_key_are_as_good_as_its_digits() -> None:
    key = "ff00" + "a1" * 18
    stored = security.hash_password(key)
    assert security.may_connect("CP", stored, 1, basic("CP", key), tls=False)
    assert security.may_connect("CP", stored, 1, basic("CP", bytes.fromhex(key)), tls=False)


def test_broken_headers_are_no_credentials():
    for header in (b"", b"Basic", b"Basic !!!", b"Bearer abc", b"Basic " + base64.b64encode(b"x")):
        assert security.basic_credentials(header) is None


def test_attempts_run_out_and_come_back():
    attempts = security.Attempts(limit=3, window_s=0.2)
    for _ in range(3):
        assert not attempts.exhausted("10.0.0.1 CP")
        attempts.failed("10.0.0.1 CP")
    assert attempts.exhausted("10.0.0.1 CP")
    assert not attempts.exhausted("10.0.0.2 CP")
    time.sleep(0.25)
    assert not attempts.exhausted("10.0.0.1 CP")
    attempts.failed("k")
    attempts.succeeded("k")
    assert not attempts.exhausted("k")
