// What an execution has run, read from its frozen definition, and how much of it is still drawn as it ran.

import type { Definition, DefinitionJob } from "../rpc/types";
import type { Drawing, DrawnNode, DrawnWire, Key } from "./drawing";
import { same } from "./drawing";
import { endsOf, handleAt, handleId, normalisePath } from "./handles";
import type { Side } from "./handles";
import type { Keys } from "./ids";

/** A connection as it ran. An end is a node's id, `null` for the self-peer, and the handle there. */
export interface RanWire {
  from: number | null;
  to: number | null;
  ends: Record<Side, string>;
  destination_file_name: string | null;
  include: readonly string[];
  source_path: string | null;
}

/** By the daemon's ids. */
export interface Ran {
  jobs: ReadonlyMap<number, DefinitionJob>;
  wires: ReadonlyMap<number, RanWire>;
}

/** What of a drawing is as it ran: ids by keys. */
export interface StillDrawn {
  nodes: ReadonlyMap<Key, number>;
  wires: ReadonlyMap<Key, number>;
  /** Something is drawn that has not run so, or has run and is not drawn. */
  differs: boolean;
}

const AT_SELF: Record<Side, string> = {
  in: handleId({ side: "in", interface_type: "MOUNT", path: "" }),
  out: handleId({ side: "out", interface_type: "MOUNT", path: "" }),
};

export function readRan(definition: Definition): Ran {
  const wires = new Map<number, RanWire>();
  for (const job of definition.jobs) {
    for (const { type, path, interface_peers } of job.interfaces) {
      for (const peer of interface_peers) {
        // Each of two jobs tells of the wire between them: the end of its own is what only it knows exactly.
        const side: Side = peer.peer_mount_function === "OUTPUT" ? "in" : "out";
        const own = handleId({ side, interface_type: type, path: type === "MOUNT" ? normalisePath(path) : "" });
        const [from, to] =
          side === "in" ? [peer.peer_workflow_node_id, job.node_id] : [job.node_id, peer.peer_workflow_node_id];
        wires.set(peer.connection_id, {
          from,
          to,
          ends: { ...(wires.get(peer.connection_id)?.ends ?? AT_SELF), [side]: own },
          destination_file_name: peer.peer_file_name,
          include: peer.include,
          source_path: peer.source_path ?? null,
        });
      }
    }
  }
  return { jobs: new Map(definition.jobs.map((job) => [job.node_id, job])), wires };
}

export function stillDrawn(drawing: Drawing, nodeKeys: Keys, wireKeys: Keys, ran: Ran): StillDrawn {
  const nodes = new Map<Key, number>();
  const wires = new Map<Key, number>();
  for (const node of drawing.nodes.values()) {
    const id = nodeKeys.idOf(node.key);
    const job = id === undefined ? undefined : ran.jobs.get(id);
    if (job && isNodeAsRun(node, job)) nodes.set(node.key, job.node_id);
  }
  for (const wire of drawing.wires.values()) {
    const id = wireKeys.idOf(wire.key);
    const was = id === undefined ? undefined : ran.wires.get(id);
    if (id !== undefined && was && isWireAsRun(wire, was, drawing, nodeKeys)) wires.set(wire.key, id);
  }
  const isWhole = (kept: number, drawn: number, run: number): boolean => kept === drawn && kept === run;
  const differs =
    !isWhole(nodes.size, drawing.nodes.size, ran.jobs.size) || !isWhole(wires.size, drawing.wires.size, ran.wires.size);
  return { nodes, wires, differs };
}

/** Its name and its place say nothing of what runs. */
function isNodeAsRun(node: DrawnNode, job: DefinitionJob): boolean {
  return (
    node.service_id === job.service_id &&
    node.peer_id === job.executor_peer_id &&
    same(node.entrypoint, job.entrypoint ?? null) &&
    same(node.cmd, job.cmd ?? null) &&
    (node.pin ? node.service_revision : null) === (job.pinned_revision ?? null) &&
    same(
      mounts(node.interfaces.map(({ interface_type: type, path, mount_function }) => ({ type, path, mount_function }))),
      mounts(job.interfaces),
    )
  );
}

function mounts(interfaces: readonly Pick<DefinitionJob["interfaces"][number], "type" | "path" | "mount_function">[]): string[] {
  return interfaces
    .filter(({ type }) => type === "MOUNT")
    .map(({ path, mount_function }) => `${mount_function} ${normalisePath(path)}`)
    .sort();
}

function isWireAsRun(wire: DrawnWire, was: RanWire, drawing: Drawing, nodeKeys: Keys): boolean {
  const ids = [wire.from, wire.to].map((ref) => (ref === null ? null : nodeKeys.idOf(ref)));
  const ends = endsOf(wire).map((end) => handleAt(end, end.node === null ? undefined : drawing.nodes.get(end.node)));
  return (
    same(ids, [was.from, was.to]) &&
    same(ends, [was.ends.out, was.ends.in]) &&
    wire.destination_file_name === was.destination_file_name &&
    same(wire.include, was.include) &&
    // Which file it is may have been left to be said when it was executed.
    (wire.source_path === null || wire.source_path === was.source_path)
  );
}
