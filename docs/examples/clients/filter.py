#!/usr/bin/env python3
"""Have a peer run a command over a file and print what comes home: a client of rnd's API in Python, with its library alone.

    filter.py FILE COMMAND        filter.py hamlet.txt 'tr a-z A-Z | sort'

It speaks to RND_URL (http://127.0.0.1:30069) with the token RND_TOKEN, or else to the socket below RND_DATA_DIR.
"""

import http.client
import json
import os
import socket
import sys
import urllib.parse


class Refused(Exception):
    """The peer has answered with an error; its text has all that a person needs."""


class SocketConnection(http.client.HTTPConnection):
    """HTTP over the peer's unix socket."""

    def __init__(self, path, timeout):
        super().__init__("rnd", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Peer:
    """One peer, asked over one connection."""

    def __init__(self, environment):
        url = environment.get("RND_URL", "")
        self._headers = {"Content-Type": "application/json"}
        if url:
            self._headers["Authorization"] = f"Bearer {environment.get('RND_TOKEN', '')}"
            self._connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=60)
        else:
            self._connection = SocketConnection(environment.get("RND_DATA_DIR", "/var/lib/rnd") + "/api.sock", 60)
        self._last_id = 0

    def call(self, method, **params):
        """Return the result of a method; raise Refused where it has none."""
        self._last_id += 1
        request = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}
        answer = json.loads(self._http("POST", "/rpc", json.dumps(request)))
        if "error" in answer:
            raise Refused(in_words(method, answer["error"]))
        return answer["result"]

    def download(self, path):
        """Return the bytes of a result."""
        return self._http("GET", "/results/" + urllib.parse.quote(path))

    def _http(self, verb, path, body=None):
        self._connection.request(verb, path, body, self._headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise Refused(f"HTTP {response.status}: {content.decode(errors='replace').strip()}")
        return content


def in_words(method, error):
    """Return an error as a person reads it: what is wrong, every problem, and what to do."""
    data = error.get("data") or {}
    lines = [f"{method}: {error['message']} ({data.get('error', error['code'])})"]
    lines += [f"  {each['message']}" for each in data.get("problems", []) if each["message"] != error["message"]]
    if data.get("hint"):
        lines.append(f"  hint: {data['hint']}")
    return "\n".join(lines)


def run(peer, file, command):
    """Offer the file and the command, connect them, run that, write the results to standard output, and tidy up."""
    name = f"filter-{os.getpid()}"
    services, workflow = [], None
    try:
        text = peer.call("service.create", name=f"{name}-text", service_type="DATA", paths=[os.path.abspath(file)])
        services.append(text["id"])
        program = peer.call(
            "service.create",
            name=f"{name}-program",
            service_type="STANDALONE",
            executable="/bin/sh",
            cmd=["-c", command],
        )
        services.append(program["id"])
        workflow = peer.call("workflow.create", name=name)["id"]
        source, sink = (
            peer.call("workflow.add_node", workflow_id=workflow, service_id=service)["node_id"] for service in services
        )
        # From the data to the program, and from the program home (null: the peer that runs the workflow).
        for start, end in ((source, sink), (sink, None)):
            peer.call(
                "workflow.add_connection",
                workflow_id=workflow,
                from_node_id=start,
                from_interface_type="STDOUT",
                to_node_id=end,
                to_interface_type="STDIN",
            )
        execution = peer.call("workflow.execute", workflow_id=workflow)["execution_id"]
        until_it_has_ended(peer, execution)
        write_results(peer, execution)
    finally:
        if workflow is not None:
            peer.call("workflow.delete", workflow_id=workflow)
        for service in services:
            peer.call("service.delete", service_id=service)


def until_it_has_ended(peer, execution):
    """Wait for an execution, for as long as it takes; raise Refused where it has not completed."""
    state = {"status": "PENDING"}
    while state["status"] in {"PENDING", "RUNNING"}:
        state = peer.call("execution.wait", execution_id=execution, timeout_s=25)
    if state["status"] != "COMPLETED":
        lines = [f"execution {execution} is {state['status']}: {state['error']}"]
        for job in state["jobs"]:
            if job["status"] == "ERRORED":
                log = peer.call("job.logs", execution_id=execution, node_id=job["node_id"], stream="stderr")
                lines += [f"  {line}" for line in log["data"].splitlines()]
        raise Refused("\n".join(lines))


def write_results(peer, execution):
    """Write every file that came home to standard output, page after page."""
    after = 0
    while after is not None:
        page = peer.call("execution.results", execution_id=execution, after_id=after)
        for item in page["items"]:
            content = peer.download(f"{execution}/{item['node_id']}/{item['connection_id']}/{item['path']}")
            sys.stdout.buffer.write(content)
        after = page["next_after_id"]


def main():
    """Run the command line; return the exit code."""
    if len(sys.argv) != 3:
        print("usage: filter.py FILE COMMAND", file=sys.stderr)
        return 2
    try:
        run(Peer(os.environ), *sys.argv[1:])
    except Refused as refused:
        print(f"filter.py: {refused}", file=sys.stderr)
    except (OSError, http.client.HTTPException) as error:
        print(f"filter.py: the peer does not answer: {error}", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
