"""rnd, the Remote Network Daemon: workflows of services that belong to different people."""

__version__ = "0.1.0"
