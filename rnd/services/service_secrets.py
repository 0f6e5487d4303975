"""A service's secrets: sealed in the database, opened only for the run that is given them as files, or for its registry."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from typing import Final

from rnd.database import sealed_secrets
from rnd.database.connection import Database
from rnd.services.images import RegistryAuth
from rnd.services.vault import Vault
from rnd.types.enums import SecretPurpose
from rnd.types.errors import JobFailed
from rnd.types.ids import ServiceId
from rnd.types.services import DataSettings, Service

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def check_secret_names(secrets: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return secrets whose names can be those of files. Raises `JobFailed`."""
    for name in secrets:
        if not _NAME.fullmatch(name):
            raise JobFailed(f"{name!r} cannot be the file name of a secret")
    return dict(secrets)


def keep_secrets(
    conn: sqlite3.Connection, vault: Vault, service_id: ServiceId, secrets: Mapping[str, str | None]
) -> None:
    """Seal secrets of a service, in place of those of the same names before; `None` forgets one."""
    for name, secret in secrets.items():
        if secret is None:
            sealed_secrets.delete_secret(conn, SecretPurpose.SERVICE_SECRET, service_id=service_id, name=name)
            continue
        sealed = vault.seal(secret.encode("utf-8"), purpose=_secret_purpose(service_id, name))
        sealed_secrets.set_secret(conn, SecretPurpose.SERVICE_SECRET, sealed, service_id=service_id, name=name)


def keep_registry_auth(
    conn: sqlite3.Connection, vault: Vault, service_id: ServiceId, registry: str, auth: RegistryAuth | None
) -> None:
    """Seal who asks a registry for the image of a service, in place of who did before; `None` forgets that."""
    if auth is None:
        sealed_secrets.delete_secret(conn, SecretPurpose.REGISTRY_AUTH, service_id=service_id)
        return
    text = json.dumps({"registry": registry, "username": auth.username, "password": auth.password})
    sealed = vault.seal(text.encode("utf-8"), purpose=_auth_purpose(service_id))
    sealed_secrets.set_secret(conn, SecretPurpose.REGISTRY_AUTH, sealed, service_id=service_id)


class ServiceSecrets:
    """Opens the secrets of a service."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def of_service(self, service: Service) -> Mapping[str, bytes]:
        """Return the plain secrets by name. Raises `SealBroken` where one was not sealed by this peer's vault."""
        if isinstance(service.settings, DataSettings) or not service.settings.secret_names:
            return {}
        sealed = await self._database.read(lambda conn: sealed_secrets.list_service_secrets(conn, service.id))
        return {
            name: self._vault.open(text, purpose=_secret_purpose(service.id, name)) for name, text in sealed.items()
        }

    async def registry_auth(self, service_id: ServiceId, registry: str) -> RegistryAuth | None:
        """Return who asks for the image of a service; `None`: nobody in particular. Raises `SealBroken`.

        What was given for one registry is never shown to another.
        """
        sealed = await self._database.read(lambda conn: sealed_secrets.find_registry_auth(conn, service_id))
        if sealed is None:
            return None
        fields = json.loads(self._vault.open(sealed, purpose=_auth_purpose(service_id)))
        if fields["registry"] != registry:
            return None
        return RegistryAuth(username=fields["username"], password=fields["password"])


def _auth_purpose(service_id: ServiceId) -> str:
    return f"registry_auth:{service_id}"


def _secret_purpose(service_id: ServiceId, name: str) -> str:
    return f"service_secret:{service_id}:{name}"
