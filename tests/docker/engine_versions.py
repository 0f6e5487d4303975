"""Speaks as an engine of other versions of the API does, in front of the real one, which speaks 1.41.

Engines as new as this cannot be had everywhere; what they say otherwise is documented, and done to the answers here: the
number at each change is the version that brought it. Source: moby/moby, api/docs/CHANGELOG.md; what a question of a version
that is not spoken is told: daemon/server/middleware/version.go. How a newer engine runs a container is not to be seen here.

Whatever lasts (attach, logs, wait, events) is carried byte for byte once its header is through.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from pathlib import Path
from typing import Any, NamedTuple

from tests.docker.engine import SOCKET, stop_accepting

SPOKEN = "1.41"
"""What the real engine is asked in."""
NEWEST, OLDEST = "1.52", "1.44"
"""Of Docker 29."""
CHUNK_BYTES = 1 << 16
HEAD_END = b"\r\n\r\n"
QUESTION = re.compile(r"([A-Z]+) (?:/v([0-9.]+))?(/[^ ?]*)([^ ]*) (HTTP/1\.[01])")

Answer = dict[str, Any]


class Omission(NamedTuple):
    """What answers to questions of a version and of newer ones do not say: at all, or where there is nothing to say."""

    since: str
    names: tuple[str, ...]
    within: tuple[str, ...] = ()
    if_empty: bool = False

    def apply(self, answer: Answer) -> None:
        """Take it out of an answer."""
        for key in self.within:
            answer = answer[key]
        for name in self.names:
            if not (self.if_empty and answer.get(name)):
                answer.pop(name, None)


IMAGE = (
    Omission("1.44", ("VirtualSize",)),
    Omission("1.45", ("Container", "ContainerConfig")),
    Omission(
        "1.50",
        (
            *("Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"),
            *("Image", "NetworkDisabled", "MacAddress", "StopTimeout"),
        ),
        ("Config",),
    ),
    Omission("1.51", ("Parent", "DockerVersion")),  # deprecated then, and said of no image that BuildKit makes
    Omission("1.52", ("Comment", "Author"), if_empty=True),
    Omission(
        "1.52",
        ("Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "User", "Volumes", "WorkingDir"),
        ("Config",),
        if_empty=True,
    ),
)
CONTAINER = (
    Omission("1.42", ("KernelMemory", "KernelMemoryTCP"), ("HostConfig",), if_empty=True),
    Omission("1.52", ("OnBuild",), ("Config",), if_empty=True),
    Omission("1.52", ("KernelMemoryTCP",), ("HostConfig",)),
    Omission(
        "1.52",
        (
            *("Bridge", "HairpinMode", "LinkLocalIPv6Address", "LinkLocalIPv6PrefixLen", "SecondaryIPAddresses"),
            *("SecondaryIPv6Addresses", "EndpointID", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen"),
            *("IPAddress", "IPPrefixLen", "IPv6Gateway", "MacAddress"),
        ),
        ("NetworkSettings",),
    ),
)
INFO = (
    Omission("1.49", ("Expected",), ("ContainerdCommit",)),
    Omission("1.49", ("Expected",), ("RuncCommit",)),
    Omission("1.49", ("Expected",), ("InitCommit",)),
    Omission("1.50", ("BridgeNfIptables", "BridgeNfIp6tables")),
    Omission("1.52", ("KernelMemoryTCP",)),
)
ANSWERS = (
    (re.compile(r"GET /images/.+/json"), IMAGE),
    (re.compile(r"GET /containers/[^/]+/json"), CONTAINER),
    (re.compile(r"GET /info"), INFO),
    (re.compile(r"GET /version"), ()),
)
MULTIPLEXED = re.compile(r"POST /containers/[^/]+/attach|GET /containers/[^/]+/logs")
NEWS = re.compile(r"POST /(images/create|build)")
MOUNT_OPTIONS = {"BindOptions": "bind", "VolumeOptions": "volume", "TmpfsOptions": "tmpfs"}


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


class _Question:
    """One question: its first line taken apart, its headers, and what has been read beyond them."""

    def __init__(self, head: bytes, rest: bytes) -> None:
        first, *self.headers = head.decode().split("\r\n")
        found = QUESTION.fullmatch(first)
        assert found is not None, first
        self.method, self.version, self.path, self.query, self.http = found.groups(default="")
        self.body = rest
        self.name = f"{self.method} {self.path}"

    def asked_of(self, newest: str) -> tuple[int, ...]:
        """Return the version that it is to be answered in."""
        return _as_numbers(self.version or newest)

    def header(self, name: str) -> str:
        return next((line.partition(":")[2].strip() for line in self.headers if _is(line, name)), "")

    def for_engine(self, *, whole: bool) -> bytes:
        """Return it as the real engine is asked; `whole` has the answer come in one piece, and all but upgrades end with it."""
        http = "HTTP/1.0" if whole else self.http
        version = f"/v{SPOKEN}" if self.version else ""
        kept = list(self.headers)
        if not self.header("Upgrade"):
            kept = [line for line in kept if not _is(line, "Connection")] + ["Connection: close"]
        return "\r\n".join([f"{self.method} {version}{self.path}{self.query} {http}", *kept, "", ""]).encode()


class VersionedEngine:
    """One socket. `asked` are the versions that questions have named, `refused` those that were not answered for theirs."""

    def __init__(self, folder: Path, *, newest: str = NEWEST, oldest: str = OLDEST, engine: str = SOCKET) -> None:
        self.path = str(folder / f"engine-{newest}.sock")
        self.asked: set[str] = set()
        self.refused: list[str] = []
        self._newest = newest
        self._oldest = oldest
        self._engine = engine
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(64)
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def url(self) -> str:
        """What DOCKER_HOST is to say."""
        return f"unix://{self.path}"

    def close(self) -> None:
        """Refuse everybody from now on."""
        stop_accepting(self._listener, self._acceptor)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Answer one question, which is all that one connection is for."""
        with client, socket.socket(socket.AF_UNIX) as engine, contextlib.suppress(OSError):
            head, rest = _read_head(client)
            if not head:
                return
            question = _Question(head, rest)
            words = self._objection(question, client)
            if words:
                client.sendall(_refusal(words))
                return
            engine.connect(self._engine)
            omissions = next((omissions for pattern, omissions in ANSWERS if pattern.fullmatch(question.name)), None)
            engine.sendall(question.for_engine(whole=omissions is not None) + question.body)
            if omissions is None:
                self._carry(question, engine, client)
            else:
                self._answer_whole(question, engine, client, omissions)

    def _objection(self, question: _Question, client: socket.socket) -> str:
        """Return why a question is not answered, in the engine's words, or ""."""
        if question.version:
            self.asked.add(question.version)
        asked = question.asked_of(self._newest)
        if asked < _as_numbers(self._oldest):
            self.refused.append(question.version)
            return (
                f"client version {question.version} is too old. Minimum supported API version is {self._oldest}, "
                "please upgrade your client to a newer version"
            )
        if asked > _as_numbers(self._newest):
            self.refused.append(question.version)
            return f"client version {question.version} is too new. Maximum supported API version is {self._newest}"
        if question.name == "POST /containers/create" and asked >= (1, 42):
            while len(question.body) < int(question.header("Content-Length")):
                question.body += client.recv(CHUNK_BYTES)
            for mount in json.loads(question.body).get("HostConfig", {}).get("Mounts") or ():
                for options, kind in MOUNT_OPTIONS.items():
                    if options in mount and mount["Type"] != kind:
                        return f"invalid mount config for type {mount['Type']!r}: {options} are for another"
        return ""

    def _answer_whole(
        self, question: _Question, engine: socket.socket, client: socket.socket, omissions: tuple[Omission, ...]
    ) -> None:
        """Read an answer to its end, do to it what newer versions have changed, and send that."""
        head, body = _read_head(engine)
        while data := engine.recv(CHUNK_BYTES):
            body += data
        if head.split(b" ", 2)[1] == b"200":
            answer = json.loads(body)
            if question.path == "/version":
                self._name_versions(answer)
            for each in omissions:
                if question.asked_of(self._newest) >= _as_numbers(each.since):
                    each.apply(answer)
            body = json.dumps(answer).encode()
        client.sendall(self._head(head, {"Content-Length": str(len(body))}) + body)

    def _name_versions(self, answer: Answer) -> None:
        for each in (answer, *(part["Details"] for part in answer["Components"] if part["Name"] == "Engine")):
            each |= {"ApiVersion": self._newest, "MinAPIVersion": self._oldest}

    def _head(self, head: bytes, others: dict[str, str]) -> bytes:
        others = {"Api-Version": self._newest, **others}
        first, *headers = head.decode().split("\r\n")
        kept = [line for line in headers if not any(_is(line, name) for name in others)]
        return "\r\n".join([first, *kept, *(f"{name}: {value}" for name, value in others.items()), "", ""]).encode()

    def _carry(self, question: _Question, engine: socket.socket, client: socket.socket) -> None:
        """Carry bytes both ways until the engine or the client hangs up."""
        onward = threading.Thread(target=_carry_onward, args=(client, engine), daemon=True)
        onward.start()
        try:
            head, rest = _read_head(engine)
            succeeds = head.split(b" ", 2)[1] in (b"101", b"200") if head else False
            others = {}
            if succeeds and MULTIPLEXED.fullmatch(question.name) and question.asked_of(self._newest) >= (1, 42):
                others["Content-Type"] = "application/vnd.docker.multiplexed-stream"
            client.sendall(self._head(head, others) if head else b"")
            if succeeds and NEWS.fullmatch(question.name) and question.asked_of(self._newest) >= (1, 48):
                _carry_news(engine, client, rest)
            else:
                client.sendall(rest)
                while data := engine.recv(CHUNK_BYTES):
                    client.sendall(data)
        finally:
            for each in (client, engine):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            onward.join()


def _carry_onward(client: socket.socket, engine: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := client.recv(CHUNK_BYTES):
            engine.sendall(data)
        engine.shutdown(socket.SHUT_WR)


def _carry_news(engine: socket.socket, client: socket.socket, unread: bytes) -> None:
    """Carry news of a pull or a build without `error` and `progress`: deprecated since 1.48, and to be omitted one day."""
    while True:
        *lines, unread = unread.split(b"\n")
        for line in lines:
            news = json.loads(line) if line.strip() else {}
            news = {name: value for name, value in news.items() if name not in ("error", "progress")}
            client.sendall(json.dumps(news).encode() + b"\r\n")
        data = engine.recv(CHUNK_BYTES)
        if not data:
            client.sendall(unread)
            return
        unread += data


def _read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """Return the first line with the headers, and what has come beyond them; nothing where somebody hangs up before."""
    data = b""
    while HEAD_END not in data:
        more = connection.recv(CHUNK_BYTES)
        if not more:
            return b"", b""
        data += more
    head, _, rest = data.partition(HEAD_END)
    return head, rest


def _refusal(words: str) -> bytes:
    body = json.dumps({"message": words}).encode()
    head = f"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}"
    return head.encode() + HEAD_END + body


def _is(line: str, name: str) -> bool:
    return line.partition(":")[0].strip().lower() == name.lower()
