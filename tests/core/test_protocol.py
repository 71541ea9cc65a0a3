"""Frames say what was put into them, and no bytes from outside raise anything but ProtocolError."""

from __future__ import annotations

import contextlib
import functools
import types
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from workflow_core import protocol
from workflow_core.protocol import (
    HEADER,
    MAX_FRAME,
    Event,
    Message,
    Pause,
    Predict,
    ProtocolError,
    Request,
    Save,
    Unsendable,
    body_length,
    decode_event,
    decode_message,
    encode,
    request_id,
)
from workflow_core.specs import LOSSES, DataSpec, InitSpec, ModelSpec, TrainSpec

_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    float: st.floats(),
    int: st.integers(-(2**63), 2**63 - 1),
    bool: st.booleans(),
    str: st.text(max_size=8),
    type(None): st.none(),
    UnsetType: st.just(UNSET),
    # settings must hold together, so they are not put together at random
    DataSpec: st.builds(DataSpec, weight=st.floats(-1e6, 1e6), seed=st.integers(0, 2**63 - 1)),
    ModelSpec: st.builds(ModelSpec, init=st.builds(InitSpec, seed=st.integers(0, 2**63 - 1))),
    TrainSpec: st.builds(TrainSpec, epochs=st.integers(1, 10**9), loss=st.sampled_from(LOSSES)),
}


@functools.cache
def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that the protocol uses."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(values, arguments))
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is tuple and arguments[-1] is not ...:
        return st.tuples(*map(values, arguments))
    if origin in (list, tuple):
        return st.lists(values(arguments[0]), max_size=3).map(origin)
    if origin is dict:
        return st.dictionaries(*map(values, arguments), max_size=3)
    return st.builds(kind, **{field.name: values(field.type) for field in msgspec.structs.fields(kind)})


MESSAGES: st.SearchStrategy[Message] = values(protocol.Message)
EVENTS: st.SearchStrategy[Event] = values(protocol.Event)


@settings(max_examples=100, deadline=None)
@given(MESSAGES)
def test_messages_come_back_as_they_went(message: Message) -> None:
    frame = encode(message)
    assert body_length(frame[: HEADER.size]) == len(frame) - HEADER.size
    # compared as bytes, because NaN is not equal to itself
    assert encode(decode_message(frame[HEADER.size :])) == frame


@settings(max_examples=100, deadline=None)
@given(EVENTS)
def test_events_come_back_as_they_went(event: Event) -> None:
    frame = encode(event)
    decoded = decode_event(frame[HEADER.size :])
    assert type(decoded) is type(event)
    assert encode(decoded) == frame


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_else(body: bytes) -> None:
    for decode in (decode_message, decode_event):
        with contextlib.suppress(ProtocolError):
            decode(body)
    request_id(body)


@settings(max_examples=200, deadline=None)
@given(MESSAGES, st.data())
def test_damaged_frames_raise_nothing_else(message: Message, data: st.DataObject) -> None:
    body = bytearray(encode(message)[HEADER.size :])
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    for damaged in (bytes(body), bytes(body[:at])):
        try:
            decode_message(damaged)
        except ProtocolError:
            request_id(damaged)


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decode_message(b"\x91" * 100_000)


def test_the_id_of_a_request_that_does_not_fit_is_known() -> None:
    body = msgspec.msgpack.encode({"type": "request", "id": 7, "command": {"type": "fly"}})
    with pytest.raises(ProtocolError, match="fly"):
        decode_message(body)
    assert request_id(body) == 7
    assert request_id(msgspec.msgpack.encode({"type": "hello", "id": 7})) is None


def test_a_spec_that_does_not_hold_is_refused_with_its_reason() -> None:
    body = msgspec.msgpack.encode(
        {"type": "request", "id": 1, "command": {"type": "make_data", "spec": {"step": -1.0}}}
    )
    with pytest.raises(ProtocolError, match="greater than 0"):
        decode_message(body)


def test_oversized_frames_are_refused_both_ways() -> None:
    with pytest.raises(ProtocolError, match="limit"):
        encode(Request(id=1, command=Predict(x=((0.0,) * (MAX_FRAME // 9 + 1),))))
    assert body_length(HEADER.pack(MAX_FRAME)) == MAX_FRAME
    with pytest.raises(ProtocolError, match="limit"):
        body_length(HEADER.pack(MAX_FRAME + 1))


def test_a_name_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(Unsendable):
        encode(Request(id=1, command=Save(path="caf\udce9.pt")))


def test_a_newer_engine_may_say_more() -> None:
    known = msgspec.msgpack.decode(encode(Request(id=3, command=Pause()))[HEADER.size :])
    known["colour"] = "blue"
    assert decode_message(msgspec.msgpack.encode(known)) == Request(id=3, command=Pause())
