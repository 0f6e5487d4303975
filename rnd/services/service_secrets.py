"""A service's secrets: sealed in the database, opened only for the run that is given them as files."""

from __future__ import annotations

from collections.abc import Mapping

from rnd.database import sealed_secrets
from rnd.database.connection import Database
from rnd.services.vault import Vault
from rnd.types.ids import ServiceId
from rnd.types.services import Service, StandaloneSettings


def secret_purpose(service_id: ServiceId, name: str) -> str:
    """Return the purpose that a service's secret is sealed for in the vault."""
    return f"service_secret:{service_id}:{name}"


class ServiceSecrets:
    """Opens the secrets of a service."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def of_service(self, service: Service) -> Mapping[str, bytes]:
        """Return the plain secrets by name. Raises `SealBroken` where one was not sealed by this peer's vault."""
        if not isinstance(service.settings, StandaloneSettings) or not service.settings.secret_names:
            return {}
        sealed = await self._database.read(lambda conn: sealed_secrets.list_service_secrets(conn, service.id))
        return {name: self._vault.open(text, purpose=secret_purpose(service.id, name)) for name, text in sealed.items()}
