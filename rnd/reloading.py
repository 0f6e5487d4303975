"""Which part of a configuration that has changed can come into force while the daemon runs (SIGHUP)."""

from __future__ import annotations

from dataclasses import replace

from rnd.config import LoadedConfig, config_keys
from rnd.types.config import Config


def reloaded(before: Config, after: Config) -> Config:
    """Return the configuration in force with what may change at run time as `after` says it.

    All other keys are built into what the daemon has started with.
    """
    return replace(
        before,
        log_level=after.log_level,
        log_format=after.log_format,
        log_file=after.log_file,
        log_file_bytes=after.log_file_bytes,
        allowed_hosts=after.allowed_hosts,
        allowed_origins=after.allowed_origins,
        job_slots=after.job_slots,
        drain_s=after.drain_s,
    )


def changed_keys(before: Config, after: Config) -> list[str]:
    """Return the keys whose values differ."""
    earlier, later = (LoadedConfig(config=config, origins={}, files=()) for config in (before, after))
    return [key for key in config_keys() if earlier.value(key) != later.value(key)]
