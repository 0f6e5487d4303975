"""Declared interfaces: defaults, reading, soundness."""

from __future__ import annotations

from typing import Any

import pytest

from rnd.rules.interfaces import (
    default_interfaces,
    interfaces_from_json,
    interfaces_to_json,
    parse_interface_type,
    validate_interfaces,
    with_streams,
)
from rnd.types.enums import InterfaceType, MountFunction, ServiceType
from rnd.types.errors import ValidationFailed
from rnd.types.services import ServiceInterface


def messages(service_type: str, *interfaces: ServiceInterface) -> list[str]:
    return [problem.message for problem in validate_interfaces(ServiceType(service_type), interfaces)]


def test_defaults_are_the_documented_ones(make: Any) -> None:
    assert default_interfaces(ServiceType.DATA) == (make.stream("STDOUT"),)
    streams = tuple(make.stream(kind) for kind in ("STDIN", "STDOUT", "STDERR", "LOGS"))
    assert default_interfaces(ServiceType.DOCKER) == streams
    assert default_interfaces(ServiceType.STANDALONE) == streams


def test_streams_are_added_where_they_are_not_declared(make: Any) -> None:
    mount, stdout = make.mount("/in"), make.stream("STDOUT")
    kinds = [interface.interface_type for interface in with_streams(ServiceType.DOCKER, (mount, stdout))]
    assert kinds == ["STDIN", "STDERR", "LOGS", "MOUNT", "STDOUT"]


def test_interfaces_are_read_and_written(make: Any) -> None:
    read = interfaces_from_json(
        [
            {"interface_type": "STDIN", "path": "/input", "mount_function": "INPUT"},
            {"type": "STDOUT", "path": None},
            {
                "interface_type": "MOUNT",
                "path": "/data/",
                "mount_function": "INPUT",
                "required": True,
                "description": "x",
            },
            {"interface_type": "MOUNT", "path": "/both"},
        ]
    )
    assert read == (
        make.stream("STDIN"),
        make.stream("STDOUT"),
        ServiceInterface(
            interface_type=InterfaceType.MOUNT,
            path="/data",
            mount_function=MountFunction.INPUT,
            required=True,
            description="x",
        ),
        make.mount("/both", "BOTH"),
    )
    assert interfaces_from_json(interfaces_to_json(read)) == read


def test_every_misreading_is_told_at_once_in_the_document_s_words() -> None:
    with pytest.raises(ValidationFailed) as caught:
        interfaces_from_json(
            [
                {"interface_type": "STDUOT"},
                {"interface_type": "MOUNT", "mount_function": "SIDEWAYS"},
                {"path": 5},
                {"interface_type": "STDIN", "requierd": True},
            ]
        )
    assert [problem.message for problem in caught.value.problems] == [
        "Invalid interface type: STDUOT",
        "Invalid mount function: SIDEWAYS",
        "interfaces[2].interface_type: is missing",
        "interfaces[2].path: must be a string, not a number",
        "interfaces[3].requierd: unknown key (did you mean required?)",
    ]


def test_what_is_no_list_is_refused() -> None:
    with pytest.raises(ValidationFailed, match="interfaces: must be a list, not an object"):
        interfaces_from_json({})


def test_an_unknown_interface_type_has_the_document_s_message() -> None:
    assert parse_interface_type("LOGS") is InterfaceType.LOGS
    with pytest.raises(ValidationFailed, match=r"^Invalid interface type: PIPE$"):
        parse_interface_type("PIPE")


def test_sound_interfaces_have_no_problems(make: Any) -> None:
    streams = [make.stream(kind) for kind in ("STDIN", "STDOUT", "STDERR", "LOGS")]
    mounts = [make.mount("/in", "INPUT"), make.mount("/out", "OUTPUT"), make.mount("/output", "BOTH")]
    assert messages("DOCKER", *streams, *mounts) == []
    assert messages("STANDALONE") == []
    assert messages("DATA", make.stream("STDOUT")) == []


def test_data_has_stdout_and_nothing_else(make: Any) -> None:
    assert messages("DATA") == ["DATA service must have STDOUT interface"]
    assert messages("DATA", make.stream("STDIN"), make.stream("STDOUT"), make.mount("/x")) == [
        "A DATA service offers STDOUT only, not STDIN",
        "A DATA service offers STDOUT only, not MOUNT",
    ]


def test_mounts_are_checked(make: Any) -> None:
    nameless = ServiceInterface(interface_type=InterfaceType.MOUNT, path="/x")
    assert messages("DOCKER", make.mount("/proc/x"), make.mount("/output/", "INPUT"), nameless) == [
        "MOUNT path '/proc/x' lies in /proc, which belongs to the system",
        "MOUNT /output is where the job writes, so its mount function cannot be INPUT",
        "Invalid mount function: None",
    ]
    assert messages("DOCKER", make.mount("/a"), make.mount("/a/b"), make.mount("/c"), make.mount("/c/")) == [
        "MOUNT /a/b lies inside MOUNT /a",
        "MOUNT /c is declared twice",
    ]


def test_a_stream_is_declared_once(make: Any) -> None:
    assert messages("DOCKER", make.stream("LOGS"), make.stream("LOGS")) == ["Interface LOGS is declared twice"]
