"""The parts of Channels and uvicorn that the consumer replaces or relies on exist as expected."""

from __future__ import annotations

import inspect

from channels.consumer import AsyncConsumer
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from stations.ocpp.consumer import OcppConsumer


def test_what_the_consumer_overrides_exists() -> None:
    for name in ("__call__", "dispatch"):
        assert inspect.iscoroutinefunction(getattr(AsyncConsumer, name)), name
        assert name in vars(OcppConsumer)
    for name in ("websocket_connect", "websocket_receive", "websocket_disconnect", "close"):
        assert inspect.iscoroutinefunction(getattr(AsyncWebsocketConsumer, name)), name
        assert name in vars(OcppConsumer)
    assert issubclass(StopConsumer, Exception)


def test_accept_and_close_send_through_base_send() -> None:
    for function in (AsyncWebsocketConsumer.accept, AsyncWebsocketConsumer.close):
        assert "super().send" in inspect.getsource(function)
    assert "self.base_send" in inspect.getsource(AsyncConsumer.send)


def test_the_server_says_of_an_http_refusal_first_answered_then_lost() -> None:
    source = inspect.getsource(WebSocketsSansIOProtocol)
    assert '{"websocket.http.response": {}}' in source
    assert "connection_lost" in source
