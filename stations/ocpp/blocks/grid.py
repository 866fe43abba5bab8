"""2.1 blocks R, N11–N15 and Q: grid controls, periodic event streams, energy transfer modes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from stations import holdings
from stations.catalogue.grid import CARRIERS
from stations.holdings import Held, Kind, StreamSample
from stations.models import Command, Holding
from stations.ocpp import fastpath, pool
from stations.ocpp.delivery import Call, Impossible, Order, Payload
from stations.ocpp.dialect import Answer, Dialect, Incoming, on
from stations.ocpp.fastpath import Violation
from stations.ocpp.times import read_time, utc_text

TYPES: Final = {field: kind for kind, field in CARRIERS.items()}  # a report names lists by field
FAR_S: Final = 10.0 * 365 * 86_400  # an offset beyond this is no offset


class Grid(Dialect):
    """Controls of the grid operator (IEEE 1547, EN 50549)."""

    @on("NotifyDERAlarm")
    async def on_der_alarm(self, payload: Payload, incoming: Incoming) -> Answer:
        """NotifyDERAlarm (R08)."""
        await self.news(
            "grid.alarm_reported",
            kind=payload["controlType"],
            fault=payload.get("gridEventFault", ""),
            ended=payload.get("alarmEnded", False),
            at=utc_text(read_time(payload["timestamp"], self.link.zone)),
            info=payload.get("extraInfo", ""),
        )
        return {}

    @on("NotifyDERStartStop")
    async def on_der_start_stop(self, payload: Payload, incoming: Incoming) -> Answer:
        """NotifyDERStartStop (R07)."""
        await pool.write(self._started, payload)
        return {}

    def _started(self, payload: Payload) -> None:
        control, started = payload["controlId"], payload["started"]
        superseded = payload.get("supersededIds") or []
        for row in holdings.of(self.station_id, Kind.DER):
            if row.key == control or row.key in superseded:
                row.data = row.data | {
                    "running": started and row.key == control,
                    "superseded": row.key in superseded,
                }
                Holding.objects.filter(pk=row.pk).update(data=row.data)
        at = utc_text(read_time(payload["timestamp"], self.link.zone))
        self._record(
            "grid.control_started" if started else "grid.control_stopped",
            {"control": control, "at": at, "superseded": superseded},
        )

    @on("ReportDERControl")
    async def on_der_report(self, payload: Payload, incoming: Incoming) -> Answer:
        """ReportDERControl (R05): one list a type of control."""
        held = []
        for field, controls in payload.items():
            if not isinstance(controls, list):
                continue
            for one in controls:
                kind = one.get("curveType", TYPES.get(field, field))
                data = {key: value for key, value in one.items() if key != "customData"}
                told = {"kind": kind, "superseded": one.get("isSuperseded", False)} | data
                held.append(Held(Kind.DER, one["id"], kind, told))
        news = "" if payload.get("tbc", False) else "grid.controls_reported"
        await pool.write(holdings.keep, self.station_id, held, news, controls=len(held))
        return {}

    def set_der_control(self, order: Order) -> Call:
        """SetDERControl (R04)."""
        return Call(
            "SetDERControl",
            {
                "isDefault": bool(order.default),
                "controlId": order.control_id,
                "controlType": order.kind,
                CARRIERS[order.kind]: order.settings,
            },
        )

    def answered_set_der_control(self, command: Command, answer: Payload) -> None:
        """Keep the control; those it supersedes are marked."""
        args = command.args
        data = {
            "kind": args["kind"], "isDefault": bool(args.get("default")),
            CARRIERS[args["kind"]]: args["settings"],
        }  # fmt: skip
        holdings.keep(self.station_id, [Held(Kind.DER, args["control_id"], args["kind"], data)])
        for row in holdings.of(self.station_id, Kind.DER):
            if row.key in (answer.get("supersededIds") or ()):
                data = row.data | {"superseded": True}
                Holding.objects.filter(pk=row.pk).update(data=data)

    def get_der_control(self, order: Order) -> Call:
        """GetDERControl (R05)."""
        return Call(
            "GetDERControl",
            {
                "requestId": order.request_id or order.id,
                "isDefault": order.default,
                "controlType": order.kind,
                "controlId": order.control_id,
            },
        )

    def clear_der_control(self, order: Order) -> Call:
        """ClearDERControl (R06)."""
        return Call(
            "ClearDERControl",
            {
                "isDefault": bool(order.default),
                "controlType": order.kind,
                "controlId": order.control_id,
            },
        )

    def answered_clear_der_control(self, command: Command, answer: Payload) -> None:
        """Forget what was cleared."""
        args = command.args
        gone = [
            row.key
            for row in holdings.of(self.station_id, Kind.DER)
            if args.get("control_id") in (None, row.key)
            and args.get("kind") in (None, row.data.get("kind"))
            and (args.get("control_id") or self._default(row) == bool(args.get("default")))
        ]
        holdings.give_up(self.station_id, Kind.DER, gone)

    def _default(self, row: Holding) -> bool:
        return bool(row.data.get("isDefault"))

    def afrr_signal(self, order: Order) -> Call:
        """AFRRSignal (K21)."""
        at = order.at or utc_text(datetime.now(UTC))
        return Call("AFRRSignal", {"timestamp": at, "signal": order.signal})

    def allow_energy_transfer(self, order: Order) -> Call:
        """NotifyAllowedEnergyTransfer (Q01)."""
        return Call(
            "NotifyAllowedEnergyTransfer",
            {"transactionId": order.ref, "allowedEnergyTransfer": order.modes},
        )


class Streams(Dialect):
    """Periodic event streams: opened by the station, filled by messages that are never answered."""

    @on("OpenPeriodicEventStream")
    async def on_open_stream(self, payload: Payload, incoming: Incoming) -> Answer:
        """OpenPeriodicEventStream (N11)."""
        data = payload["constantStreamData"]
        held = [await pool.read(self._stream, data)]
        await pool.write(
            holdings.keep, self.station_id, held, "stream.opened",
            stream=data["id"], monitor=data["variableMonitoringId"],
        )  # fmt: skip
        return {"status": "Accepted"}

    @on("ClosePeriodicEventStream")
    async def on_close_stream(self, payload: Payload, incoming: Incoming) -> Answer:
        """ClosePeriodicEventStream (N12)."""
        await pool.write(self._close, payload["id"])
        return {}

    def _close(self, stream: int) -> None:
        holdings.give_up(
            self.station_id, Kind.STREAM, [stream], news="stream.closed", stream=stream
        )

    def on_stream(self, payload: Payload, incoming: Incoming) -> Answer:
        """NotifyPeriodicEventStream (N15): each value with its own time."""
        base = read_time(payload["basetime"], self.link.zone)
        for one in payload["data"]:
            offset_s = float(one["t"])
            if not -FAR_S < offset_s < FAR_S:
                raise Violation(fastpath.PROPERTY, "data/t: not a time near the base time")
            incoming.add(
                "stream_values",
                StreamSample(
                    self.station_id, payload["id"], base + timedelta(seconds=offset_s), one["v"]
                ),
            )
        return {}

    def _stream(self, data: Payload) -> Held:
        """Return a stream as it is kept, named by what its monitor watches."""
        monitor = str(data["variableMonitoringId"])
        watched = holdings.find(self.station_id, Kind.MONITOR, monitor)
        label = watched.label if watched else f"monitor {monitor}"
        told: dict[str, Any] = {"monitor": data["variableMonitoringId"], **data["params"]}
        return Held(Kind.STREAM, str(data["id"]), label, told)

    def get_streams(self, order: Order) -> Call:
        """GetPeriodicEventStream (N13)."""
        return Call("GetPeriodicEventStream", {})

    def answered_get_streams(self, command: Command, answer: Payload) -> None:
        """Keep exactly the streams it names."""
        told = [self._stream(one) for one in answer.get("constantStreamData") or ()]
        holdings.give_up(self.station_id, Kind.STREAM, before=command.created_at)
        holdings.keep(self.station_id, told)

    def adjust_stream(self, order: Order) -> Call:
        """AdjustPeriodicEventStream (N14)."""
        if order.interval_s is None and order.values is None:
            raise Impossible("Give the interval, the number of values, or both.")
        return Call(
            "AdjustPeriodicEventStream",
            {
                "id": order.number,
                "params": {"interval": order.interval_s, "values": order.values},
            },
        )

    def answered_adjust_stream(self, command: Command, answer: Payload) -> None:
        """Keep its new pace."""
        key = str(command.args["number"])
        known = holdings.find(self.station_id, Kind.STREAM, key)
        pace = {
            name: command.args[given]
            for name, given in (("interval", "interval_s"), ("values", "values"))
            if given in command.args
        }
        label, data = (known.label, known.data) if known else ("", {})
        holdings.keep(self.station_id, [Held(Kind.STREAM, key, label, data | pace)])
