"""Services, their snapshots and keys: round trips, revisions, and what must not be deleted."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnd.database import data_files, events, offered_services, sealed_secrets
from rnd.database.data_files import DataFile, DataKey
from rnd.database.offered_services import NewService
from rnd.types.enums import (
    Confine,
    Egress,
    InterfaceType,
    MountFunction,
    SecretPurpose,
    ServiceAccess,
    ServiceStatus,
    ServiceType,
)
from rnd.types.errors import Conflict, NotFound
from rnd.types.executions import FileEntry
from rnd.types.ids import PeerId, ServiceId
from rnd.types.services import (
    DataSettings,
    DockerSettings,
    HostPath,
    ResourceLimits,
    RetryPolicy,
    Service,
    ServiceInterface,
    StandaloneSettings,
)

ME, OTHER = PeerId("rnme"), PeerId("rnother")
SIZES = st.integers(0, 2**63 - 1)
WORDS = st.lists(st.text(), max_size=3).map(tuple)
INTERFACES = st.lists(
    st.builds(
        ServiceInterface,
        interface_type=st.sampled_from(InterfaceType),
        path=st.text(),
        mount_function=st.none() | st.sampled_from(MountFunction),
        required=st.booleans(),
        description=st.text(),
    ),
    max_size=2,
).map(tuple)
DATA_SETTINGS = st.builds(
    DataSettings,
    file_count=SIZES,
    size_bytes=SIZES,
    manifest_sha256=st.text(),
    encrypted=st.booleans(),
    egress=st.sampled_from(Egress),
    egress_peers=WORDS,
    downloadable=st.booleans(),
    seal=st.booleans(),
)
STANDALONE_SETTINGS = st.builds(
    StandaloneSettings,
    executable=st.text(),
    cmd=WORDS,
    env=st.dictionaries(st.text(), st.text(), max_size=2),
    working_directory=st.text(),
    limits=st.builds(
        ResourceLimits,
        cpus=st.none() | st.floats(0.1, 64),
        memory_bytes=st.none() | SIZES,
        pids=st.none() | SIZES,
        disk_bytes=st.none() | SIZES,
        open_files=st.none() | SIZES,
        gpus=st.none() | SIZES,
    ),
    timeout_s=st.none() | st.floats(0.1, 1e6),
    allow_override=st.booleans(),
    confine=st.sampled_from(Confine),
    host_paths=st.lists(st.builds(HostPath, path=st.text(), writable=st.booleans()), max_size=2).map(tuple),
    network=st.text(),
    min_sandbox=st.text(),
    secret_names=WORDS,
)
DOCKER_SETTINGS = st.builds(
    DockerSettings,
    image=st.text(),
    image_id=st.text(),
    digest=st.text(),
    entrypoint=st.none() | WORDS,
    cmd=st.none() | WORDS,
    env=st.dictionaries(st.text(), st.text(), max_size=2),
    limits=st.builds(ResourceLimits, memory_bytes=st.none() | SIZES, gpus=st.none() | SIZES),
    network=st.sampled_from(("none", "bridge")),
    timeout_s=st.none() | st.floats(0.1, 1e6),
    allow_override=st.booleans(),
    user=st.text(),
    read_only_root=st.booleans(),
    tmpfs_bytes=SIZES,
    cap_add=WORDS,
    secret_names=WORDS,
)
TYPES = {
    DataSettings: ServiceType.DATA,
    StandaloneSettings: ServiceType.STANDALONE,
    DockerSettings: ServiceType.DOCKER,
}
NEW_SERVICES = (DATA_SETTINGS | STANDALONE_SETTINGS | DOCKER_SETTINGS).flatmap(
    lambda chosen: st.builds(
        NewService,
        name=st.text(),
        service_type=st.just(TYPES[type(chosen)]),
        interfaces=INTERFACES,
        settings=st.just(chosen),
        description=st.text(),
        service_path=st.text(),
        pricing_amount=st.floats(allow_nan=False, allow_infinity=False),
        pricing_type=st.text(),
        access=st.sampled_from(ServiceAccess),
        retry_safe=st.booleans(),
        retry=st.builds(RetryPolicy, attempts=st.integers(1, 9), backoff_s=st.floats(0, 1e6)),
    )
)
same_connection = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def program(name: str = "sort") -> NewService:
    return NewService(
        name=name,
        service_type=ServiceType.STANDALONE,
        interfaces=(ServiceInterface(interface_type=InterfaceType.STDOUT),),
        settings=StandaloneSettings(executable="/usr/bin/sort", cmd=("-u",)),
        service_path="/usr/bin/sort",
    )


def snapshot(name: str = "words") -> NewService:
    return NewService(
        name=name,
        service_type=ServiceType.DATA,
        interfaces=(ServiceInterface(interface_type=InterfaceType.STDOUT),),
        settings=DataSettings(file_count=2, size_bytes=5, manifest_sha256="ab" * 32),
        service_path="1",
    )


@pytest.fixture
def service(conn: sqlite3.Connection, now: datetime) -> Service:
    return offered_services.create_service(conn, program(), now=now)


@pytest.fixture
def data(conn: sqlite3.Connection, now: datetime) -> Service:
    return offered_services.create_service(conn, snapshot(), now=now)


def job(conn: sqlite3.Connection, service: Service, status: str, executor: PeerId) -> None:
    conn.execute(
        """
        INSERT INTO job_executions (
            service_id, executor_peer_id, ordering_peer_id, status, order_workflow_job_id, execution_uid, node_id,
            service_type, created_at, start_by, max_runtime_s
        )
        VALUES (:service_id, :executor, :executor, :status, 1, hex(randomblob(16)), 1, 'DATA', '', '', 1)
        """,
        {"service_id": service.id, "executor": executor, "status": status},
    )


@same_connection
@given(new=NEW_SERVICES)
def test_a_service_comes_back_as_it_was_offered(conn: sqlite3.Connection, now: datetime, new: NewService) -> None:
    conn.execute("DELETE FROM offered_services")
    created = offered_services.create_service(conn, new, now=now)
    assert created == Service(
        id=created.id,
        name=new.name,
        description=new.description,
        service_type=new.service_type,
        status=ServiceStatus.ACTIVE,
        interfaces=new.interfaces,
        pricing_amount=new.pricing_amount,
        pricing_type=new.pricing_type,
        access=new.access,
        retry_safe=new.retry_safe,
        retry=new.retry,
        revision=1,
        service_path=new.service_path,
        settings=new.settings,
        created_at=now,
        updated_at=now,
    )
    assert offered_services.get_service(conn, created.id) == created
    assert offered_services.find_service_by_name(conn, new.name) == created


def test_a_name_is_given_once(conn: sqlite3.Connection, service: Service, data: Service, now: datetime) -> None:
    with pytest.raises(Conflict, match='"sort" exists'):
        offered_services.create_service(conn, program(), now=now)
    with pytest.raises(Conflict, match='"sort" exists'):
        offered_services.update_service(conn, replace(data, name="sort"), now=now)
    assert offered_services.get_service(conn, data.id) == data


def test_a_row_that_breaks_another_rule_is_no_conflict_of_names(conn: sqlite3.Connection, now: datetime) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        offered_services.create_service(conn, replace(program(), access="nobody"), now=now)


@pytest.mark.parametrize(
    ("change", "revision"),
    [
        ({"description": "d"}, 1),
        ({"name": "other"}, 1),
        ({"pricing_amount": 2.0, "pricing_type": "FIXED"}, 1),
        ({"access": ServiceAccess.GRANTED}, 1),
        ({"retry_safe": True, "retry": RetryPolicy(attempts=3)}, 1),
        ({"interfaces": ()}, 2),
        ({"service_path": "/usr/bin/tac"}, 2),
        ({"settings": StandaloneSettings(executable="/usr/bin/sort", cmd=("-r",))}, 2),
    ],
)
def test_the_revision_grows_where_a_result_could_change(
    conn: sqlite3.Connection, service: Service, now: datetime, change: dict[str, object], revision: int
) -> None:
    later = now + timedelta(seconds=1)
    changed = replace(service, **change)
    updated = offered_services.update_service(conn, changed, now=later)
    assert updated == replace(changed, revision=revision, updated_at=later)
    assert offered_services.get_service(conn, service.id) == updated


def test_where_data_may_go_does_not_change_what_it_says(conn: sqlite3.Connection, data: Service, now: datetime) -> None:
    assert isinstance(data.settings, DataSettings)
    kept_in = replace(data.settings, egress=Egress.LISTED, egress_peers=(OTHER,), downloadable=False, seal=True)
    assert offered_services.update_service(conn, replace(data, settings=kept_in), now=now).revision == 1
    other = replace(kept_in, manifest_sha256="cd" * 32)
    assert offered_services.update_service(conn, replace(data, settings=other), now=now).revision == 2


def test_an_update_moves_neither_type_nor_status_nor_revision(
    conn: sqlite3.Connection, service: Service, now: datetime
) -> None:
    meddled = replace(service, status=ServiceStatus.INACTIVE, service_type=ServiceType.DATA, revision=40)
    assert offered_services.update_service(conn, meddled, now=now) == service


def test_a_service_can_refuse_orders_and_take_them_again(
    conn: sqlite3.Connection, service: Service, now: datetime
) -> None:
    later = now + timedelta(seconds=1)
    off = offered_services.set_status(conn, service.id, ServiceStatus.INACTIVE, now=later)
    assert off == replace(service, status=ServiceStatus.INACTIVE, updated_at=later)
    assert offered_services.set_status(conn, service.id, ServiceStatus.ACTIVE, now=now) == service


def test_services_are_listed_by_type_and_status_in_pages(
    conn: sqlite3.Connection, service: Service, data: Service, now: datetime
) -> None:
    off = offered_services.create_service(conn, program("off"), now=now)
    off = offered_services.set_status(conn, off.id, ServiceStatus.INACTIVE, now=now)
    everything = offered_services.list_services(conn, limit=2)
    assert (list(everything.items), everything.total, everything.next_after_id) == ([service, data], 3, data.id)
    rest = offered_services.list_services(conn, limit=2, after_id=data.id)
    assert (list(rest.items), rest.total, rest.next_after_id) == ([off], 3, None)
    programs = offered_services.list_services(conn, service_type=ServiceType.STANDALONE, limit=9)
    assert (list(programs.items), programs.total) == ([service, off], 2)
    inactive = offered_services.list_services(conn, status=ServiceStatus.INACTIVE, limit=9)
    assert (list(inactive.items), inactive.total) == ([off], 1)


def test_a_search_looks_at_names_and_descriptions(
    conn: sqlite3.Connection, service: Service, data: Service, now: datetime
) -> None:
    described = offered_services.create_service(conn, replace(program("uniq"), description="SORTED lines"), now=now)
    hidden = offered_services.create_service(conn, program("resort"), now=now)
    offered_services.set_status(conn, hidden.id, ServiceStatus.INACTIVE, now=now)
    assert offered_services.search_services(conn, query="Sort", limit=9) == [service, described]
    assert offered_services.search_services(conn, query="%", limit=9) == []
    assert offered_services.search_services(conn, service_type=ServiceType.DATA, limit=9) == [data]
    assert len(offered_services.search_services(conn, active_only=False, limit=9)) == 4
    assert len(offered_services.search_services(conn, active_only=False, limit=2)) == 2


@pytest.mark.parametrize("status", ["IDLE", "READY", "RUNNING"])
def test_a_service_in_use_is_not_deleted(
    conn: sqlite3.Connection, service: Service, status: str, now: datetime
) -> None:
    job(conn, service, status, ME)
    with pytest.raises(Conflict, match=status):
        offered_services.delete_service(conn, service.id, self_peer_id=ME, now=now)


def test_jobs_that_ended_or_run_elsewhere_do_not_keep_a_service(
    conn: sqlite3.Connection, service: Service, now: datetime
) -> None:
    for status in ("COMPLETED", "ERRORED", "CANCELLED"):
        job(conn, service, status, ME)
    job(conn, service, "RUNNING", OTHER)
    assert offered_services.delete_service(conn, service.id, self_peer_id=ME, now=now) == service
    with pytest.raises(NotFound):
        offered_services.get_service(conn, service.id)


def test_a_deleted_service_takes_files_key_and_secrets_along(
    conn: sqlite3.Connection, data: Service, now: datetime
) -> None:
    entry = FileEntry(relative_path="a", size_bytes=1, sha256="ab")
    data_files.add_data_files(conn, data.id, [DataFile(entry=entry, stored_name="0")])
    data_files.set_data_key(conn, data.id, DataKey(header="{}", wrapped_key=b"w"))
    sealed_secrets.set_secret(conn, SecretPurpose.UNLOCKED_DATA_KEY, b"s", service_id=data.id)
    offered_services.delete_service(conn, data.id, self_peer_id=ME, now=now)
    for table in ("data_files", "data_keys", "sealed_secrets"):
        assert conn.execute("SELECT * FROM " + table).fetchall() == []


def test_every_change_is_told(conn: sqlite3.Connection, service: Service, now: datetime) -> None:
    offered_services.update_service(conn, replace(service, interfaces=()), now=now)
    offered_services.set_status(conn, service.id, ServiceStatus.INACTIVE, now=now)
    offered_services.delete_service(conn, service.id, self_peer_id=ME, now=now)
    told = [event.data for event in events.list_events(conn, after_seq=0, limit=9)]
    assert [(data["change"], data["status"], data["revision"]) for data in told] == [
        ("created", "ACTIVE", 1),
        ("updated", "ACTIVE", 2),
        ("status", "INACTIVE", 2),
        ("deleted", "INACTIVE", 2),
    ]
    assert {(data["service_id"], data["name"], data["service_type"]) for data in told} == {(1, "sort", "STANDALONE")}


def test_a_service_that_is_not_there_is_named_as_the_document_does(
    conn: sqlite3.Connection, service: Service, now: datetime
) -> None:
    missing = ServiceId(404)
    for call in (
        lambda: offered_services.get_service(conn, missing),
        lambda: offered_services.update_service(conn, replace(service, id=missing), now=now),
        lambda: offered_services.set_status(conn, missing, ServiceStatus.ACTIVE, now=now),
        lambda: offered_services.delete_service(conn, missing, self_peer_id=ME, now=now),
    ):
        with pytest.raises(NotFound, match=r"^Service 404 not found$"):
            call()
    assert offered_services.find_service_by_name(conn, "nothing") is None


@same_connection
@given(
    files=st.lists(
        st.builds(
            DataFile,
            entry=st.builds(
                FileEntry, relative_path=st.text(), size_bytes=SIZES, sha256=st.text(), executable=st.booleans()
            ),
            stored_name=st.text(),
        ),
        max_size=5,
        unique_by=lambda file: file.entry.relative_path,
    )
)
def test_a_snapshot_comes_back_whole_and_in_the_order_of_paths(
    conn: sqlite3.Connection, now: datetime, files: list[DataFile]
) -> None:
    conn.execute("DELETE FROM offered_services")
    service = offered_services.create_service(conn, snapshot(), now=now)
    data_files.add_data_files(conn, service.id, files)
    assert list(data_files.read_data_files(conn, service.id)) == sorted(
        files, key=lambda file: file.entry.relative_path.encode()
    )
    assert list(data_files.read_data_files(conn, ServiceId(service.id + 1))) == []


def test_a_wrapped_key_is_kept_and_replaced(conn: sqlite3.Connection, data: Service) -> None:
    assert data_files.find_data_key(conn, data.id) is None
    for key in (DataKey(header='{"v": 1}', wrapped_key=b"\0one"), DataKey(header='{"v": 2}', wrapped_key=b"\xfftwo")):
        data_files.set_data_key(conn, data.id, key)
        assert data_files.find_data_key(conn, data.id) == key
