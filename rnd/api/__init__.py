"""How clients reach the daemon: JSON-RPC over a unix socket, loopback HTTP and websockets (document: handlers_*)."""
