"""Other peers over the API: pairing, links and grants as documented, with real rows and links that tests script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from rnd.protocol.invites import new_invite
from rnd.rules.peer_id import peer_id_from_key
from rnd.types.config import Limits
from rnd.types.ids import PeerId
from tests.api.conftest import Peer
from tests.api.live_api import PEER_ID, LiveApi, run_with_api
from tests.api.peer_desk import Linked

ADDRESS = "192.0.2.7:30906"


def other(number: int) -> PeerId:
    return peer_id_from_key(bytes([number]) * 32)


def invite_of(peer_id: PeerId, number: int = 1) -> str:
    return new_invite(peer_id, [ADDRESS], bytes([number]) * 16)


def checked(peer: Peer, method: str, /, **params: Any) -> Any:
    """Call a method and check its answer against the result schema that `rpc.discover` promises."""
    answer = peer.call(method, **params)
    Draft7Validator(peer.api.server.table.methods[method].result).validate(answer)
    return answer


@pytest.fixture
def beta(peer: Peer) -> PeerId:
    """An allowed peer of a number of its own, not linked."""
    peer_id = other(100 + len(peer.call("peer.list", limit=1000)["items"]))
    peer.call("peer.add", peer_id=peer_id, addresses=[ADDRESS], name="beta")
    return peer_id


# ---------------------------------------------------------------- the owner's word


def test_a_peer_is_added_with_what_its_owner_says_of_it(peer: Peer) -> None:
    peer_id = other(1)
    added = checked(
        peer, "peer.add", peer_id=peer_id, addresses=["Host.example:1", "[2001:DB8::1]:2", "host.example:1"], name="one"
    )
    assert added["addresses"] == ["host.example:1", "[2001:db8::1]:2"]
    assert (added["name"], added["state"], added["connected"], added["rtt_ms"]) == ("one", "allowed", False, None)
    assert checked(peer, "peer.get", peer_id=peer_id) == added
    assert peer.refusal("peer.add", peer_id=peer_id, addresses=[]).code == 1200


def test_peers_are_listed_page_by_page_and_by_state(peer: Peer) -> None:
    ids = [other(number) for number in (11, 12, 13)]
    for peer_id in ids:
        peer.call("peer.add", peer_id=peer_id, addresses=[], state="pending")
    listed = checked(peer, "peer.list", state="pending", limit=2)
    assert [item["peer_id"] for item in listed["items"]] == ids[:2]
    assert listed["total"] == 3
    rest = checked(peer, "peer.list", state="pending", after_id=listed["next_after_id"])
    assert ([item["peer_id"] for item in rest["items"]], rest["next_after_id"]) == (ids[2:], None)


def test_a_peer_is_renamed_and_may_have_its_own_name_again(peer: Peer, beta: PeerId) -> None:
    assert checked(peer, "peer.rename", peer_id=beta, name="Office")["name"] == "Office"
    assert peer.call("peer.rename", peer_id=beta, name="")["name"] == ""
    peer.api.peers.linked[beta] = Linked(name="as it says")
    assert peer.call("peer.rename", peer_id=beta, name="")["name"] == "as it says"
    assert peer.refusal("peer.rename", peer_id=beta, name="a\u202eb").code == -32602


def test_a_peer_that_has_moved_is_dialled_elsewhere(peer: Peer, beta: PeerId) -> None:
    moved = checked(
        peer, "peer.set_addresses", peer_id=beta, addresses=["New.example:1", "192.0.2.1:2", "new.example:1"]
    )
    assert moved["addresses"] == ["new.example:1", "192.0.2.1:2"]
    assert checked(peer, "peer.get", peer_id=beta)["addresses"] == moved["addresses"]
    assert peer.refusal("peer.set_addresses", peer_id=beta, addresses=["nowhere"]).code == -32602


def test_a_denied_peer_loses_its_link_at_once(peer: Peer, beta: PeerId) -> None:
    peer.api.peers.reachable[beta] = Linked()
    assert checked(peer, "peer.connect", peer_id=beta)["connected"] is True
    denied = checked(peer, "peer.set_state", peer_id=beta, state="denied")
    assert (denied["state"], denied["connected"]) == ("denied", False)
    assert peer.refusal("peer.connect", peer_id=beta).code == 1200
    assert peer.refusal("peer.join", invite=invite_of(beta)).code == 1200


def test_a_removed_peer_is_a_stranger_without_grants(peer: Peer, beta: PeerId) -> None:
    grant = peer.call("grant.add", peer_id=beta, verbs=["order"])
    assert checked(peer, "peer.remove", peer_id=beta) == {"removed": True, "peer_id": beta}
    assert peer.refusal("peer.get", peer_id=beta).code == 1000
    assert peer.refusal("grant.remove", grant_id=grant["id"]).code == 1000


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("peer.get", {}),
        ("peer.connect", {}),
        ("peer.disconnect", {}),
        ("peer.remove", {}),
        ("peer.set_state", {"state": "allowed"}),
        ("peer.rename", {"name": "x"}),
        ("peer.set_addresses", {"addresses": ["h:1"]}),
        ("peer.ping", {}),
        ("peer.capabilities", {}),
        ("grant.add", {"verbs": ["order"]}),
    ],
)
def test_a_peer_that_nobody_has_a_word_on_is_not_found(peer: Peer, method: str, more: dict[str, Any]) -> None:
    error = peer.refusal(method, peer_id=other(99), **more)
    assert (error.code, error.data["error"]) == (1000, "NOT_FOUND")
    assert error.data["hint"]


@pytest.mark.parametrize(
    ("peer_id", "words"),
    [
        ("beta", "a peer id begins with 'rn'"),
        ("rnabc", "a peer id has 58 characters, not 5"),
        (other(1).upper(), "a peer id begins with 'rn'"),
        (other(1)[:20] + ("a" if other(1)[20] != "a" else "b") + other(1)[21:], "there is a typo in it"),
        (7, "must be a string"),
        ("*", "a peer id begins with 'rn'"),
    ],
)
def test_what_is_wrong_with_a_peer_id_is_said_in_words(peer: Peer, peer_id: object, words: str) -> None:
    error = peer.refusal("peer.get", peer_id=peer_id)
    assert (error.code, error.data["parameter"]) == (-32602, "peer_id")
    assert words in error.message


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("192.0.2.7", "an address of a peer is host:port"),
        ("192.0.2.7:0", "a port is a number from 1 to 65535"),
        ("169.254.169.254:80", "a link-local address is never dialled"),
        ("2001:db8::1:30906", "stands in brackets"),
        ("0xa9fea9fe:80", "neither an IP address"),
        ("", "must have 1 to"),
    ],
)
def test_what_is_wrong_with_an_address_is_said_in_words(peer: Peer, address: str, words: str) -> None:
    error = peer.refusal("peer.add", peer_id=other(98), addresses=[ADDRESS, address])
    assert (error.code, error.data["parameter"]) == (-32602, "addresses[1]")
    assert words in error.message


def test_this_peer_is_no_other_peer(peer: Peer) -> None:
    assert peer.refusal("peer.add", peer_id=PEER_ID, addresses=[]).code == 1200
    assert peer.refusal("peer.join", invite=invite_of(PEER_ID)).code == 1200
    assert checked(peer, "peer.capabilities", peer_id=PEER_ID)["platform"] == "linux"


def test_there_are_no_more_peers_than_the_limit_but_somebody_can_always_be_kept_out(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        await api.call("peer.add", peer_id=other(1), addresses=[])
        await api.call("peer.add", peer_id=other(2), addresses=[], state="denied")
        for method, params in (
            ("peer.add", {"peer_id": other(3), "addresses": []}),
            ("peer.join", {"invite": invite_of(other(3))}),
            ("peer.set_state", {"peer_id": other(2), "state": "allowed"}),
            ("peer.invite", {}),
        ):
            error = await api.refusal(method, **params)
            assert (error.code, error.message) == (1700, "A peer knows at most 1 others")
            assert "limits.peers" in error.data["hint"]
        # Who is known already may pair again.
        assert (await api.call("peer.join", invite=invite_of(other(1))))["peer_id"] == other(1)

    run_with_api(tmp_path / "data", test, limits=Limits(disk_floor_bytes=0, peers=1))


# ---------------------------------------------------------------- invites


def test_an_invite_pairs_and_is_answered_once(peer: Peer) -> None:
    made = checked(peer, "peer.invite")
    assert made["invite"].startswith(f"rnd-invite:1/{PEER_ID}/")
    joined = checked(peer, "peer.join", invite=f"  {invite_of(other(21))}\n")
    assert (joined["peer_id"], joined["state"], joined["addresses"]) == (other(21), "allowed", [ADDRESS])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hello", "an invite begins with rnd-invite:1/"),
        (invite_of(other(22))[:-3], "this invite was cut"),
        (invite_of(other(22))[:-1] + "!", "there is a typo in this invite"),
        (invite_of(other(22)).replace("/", "/\n", 1), "join it to one line again"),
        ("x" * 5000, "must have 1 to 4096 characters"),
    ],
)
def test_a_broken_invite_is_told_without_repeating_it(peer: Peer, line: str, words: str) -> None:
    error = peer.refusal("peer.join", invite=line)
    assert (error.code, error.data["parameter"]) == (-32602, "invite")
    assert words in error.message
    assert line not in error.message


@pytest.mark.parametrize("valid_s", [0, 9, 86_401, "900"])
def test_an_invite_is_good_for_a_bounded_time(peer: Peer, valid_s: object) -> None:
    assert peer.refusal("peer.invite", valid_s=valid_s).data["parameter"] == "valid_s"


def test_an_invite_is_in_no_log_event_or_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [invite_of(other(31)), invite_of(other(32), 2)[:-1] + "!"]

    async def test(api: LiveApi) -> str:
        lines.append((await api.call("peer.invite"))["invite"])
        await api.call("peer.join", invite=lines[0])
        await api.refusal("peer.join", invite=lines[1])
        events = await api.call("events.poll", after_seq=0)
        return json.dumps(events) + await api.database.read(lambda conn: "\n".join(conn.iterdump()))

    kept = run_with_api(tmp_path / "data", test)
    logged = capsys.readouterr()
    assert "Peer invite made" in logged.out + logged.err
    assert "Peer joined" in logged.out + logged.err
    for line in lines:
        assert line.split("/")[2] not in kept + logged.out + logged.err


# ---------------------------------------------------------------- links


def test_a_link_comes_up_on_demand_answers_and_goes(peer: Peer, beta: PeerId) -> None:
    error = peer.refusal("peer.connect", peer_id=beta)
    assert (error.code, error.data["error"]) == (1300, "PEER_UNREACHABLE")
    assert peer.call("peer.get", peer_id=beta)["last_failure"] == "connection refused"
    peer.api.peers.reachable[beta] = Linked(capabilities={"platform": "linux", "more": [1]})
    up = checked(peer, "peer.connect", peer_id=beta)
    assert (up["connected"], up["rtt_ms"], up["last_failure"]) == (True, 1.5, "")
    assert checked(peer, "peer.ping", peer_id=beta) == {"peer_id": beta, "rtt_ms": 1.235}
    assert checked(peer, "peer.capabilities", peer_id=beta) == {"platform": "linux", "more": [1]}
    assert checked(peer, "peer.disconnect", peer_id=beta)["connected"] is False
    assert peer.refusal("peer.ping", peer_id=beta).code == 1300


def test_a_pending_peer_is_not_asked_anything(peer: Peer, beta: PeerId) -> None:
    peer.call("peer.set_state", peer_id=beta, state="pending")
    for method in ("peer.connect", "peer.ping", "peer.capabilities"):
        error = peer.refusal(method, peer_id=beta)
        assert (error.code, error.message) == (1200, f"Peer {beta} is pending here")


# ---------------------------------------------------------------- grants


def test_grants_are_added_listed_and_taken_back(peer: Peer, beta: PeerId) -> None:
    service = peer.call("service.create", name=f"s {beta}", service_type="STANDALONE", executable="/bin/cat")["id"]
    narrow = checked(
        peer,
        "grant.add",
        peer_id=beta,
        service_id=service,
        verbs=["order", "discover", "order"],
        limits={"concurrent_jobs": 2, "max_bytes": None},
    )
    assert (narrow["verbs"], narrow["limits"], narrow["service_id"]) == (
        ["discover", "order"],
        {"concurrent_jobs": 2},
        service,
    )
    wide = checked(peer, "grant.add", peer_id="*", verbs=["fetch"])
    assert (wide["peer_id"], wide["service_id"], wide["limits"]) == ("*", None, {})
    assert checked(peer, "grant.list", peer_id=beta)["items"] == [narrow]
    assert checked(peer, "grant.list", peer_id="*")["items"] == [wide]
    assert checked(peer, "grant.list", service_id=service)["total"] == 1
    assert checked(peer, "grant.list", limit=1)["next_after_id"] == narrow["id"]
    assert checked(peer, "grant.remove", grant_id=narrow["id"])["removed"] is True
    assert peer.refusal("grant.remove", grant_id=narrow["id"]).code == 1000
    peer.call("grant.remove", grant_id=wide["id"])


@pytest.mark.parametrize(
    ("params", "where"),
    [
        ({"verbs": []}, "verbs"),
        ({"verbs": ["own"]}, "verbs[0]"),
        ({"verbs": ["order"], "limits": {"jobs": 1}}, "limits.jobs"),
        ({"verbs": ["order"], "limits": {"max_runtime_s": 0}}, "limits.max_runtime_s"),
        ({"verbs": ["order"], "service_id": 0}, "service_id"),
    ],
)
def test_a_wrong_grant_is_refused_by_name(peer: Peer, params: dict[str, Any], where: str) -> None:
    error = peer.refusal("grant.add", peer_id="*", **params)
    assert (error.code, error.data["parameter"]) == (-32602, where)


def test_a_grant_on_a_service_that_is_not_there_is_not_found(peer: Peer) -> None:
    assert peer.refusal("grant.add", peer_id="*", verbs=["order"], service_id=999_999).code == 1000


def test_a_token_of_a_narrow_scope_reads_but_pairs_nobody(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        token = (await api.call("token.create", name="o", scope="operate"))["token"]

        async def told(method: str, **params: Any) -> dict[str, Any]:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            async with api.tcp("POST", "/rpc", token=token, json=body) as response:
                answer: dict[str, Any] = await response.json()
                return answer

        assert "result" in await told("peer.list")
        assert "result" in await told("grant.list")
        assert (await told("peer.connect", peer_id=other(1)))["error"]["code"] == 1000
        for method, params in (
            ("peer.invite", {}),
            ("peer.join", {"invite": "x"}),
            ("peer.set_state", {"peer_id": other(1), "state": "allowed"}),
            ("grant.add", {"peer_id": "*", "verbs": ["order"]}),
        ):
            assert (await told(method, **params))["error"]["code"] == 1600

    run_with_api(tmp_path / "data", test)
