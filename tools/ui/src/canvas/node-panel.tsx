// The settings of a chosen node, and what it is doing.

import type { JSX } from "react";
import type { DrawnNode, Edit } from "../graph/drawing";
import { wiresOf } from "../graph/drawing";
import { endsOf, normalisePath } from "../graph/handles";
import { isJobOver } from "../graph/run";
import { Button, Checkbox, Facts, Guarded, IconButton, KindLabel, PeerName, Select, StateBadge, Tabs } from "../parts";
import type { MountFunction, ServiceInterface } from "../rpc";
import { ExplainText, LogText } from "../views/job_dialogs";
import { useCanvas, useDrawing, useDrawnRun, useNodeRun, useShownRun } from "./context";
import { CommandField, DraftInput } from "./drafts";
import { FindingsOf } from "./findings";
import { LogStreams } from "./log-streams";
import { PanelHeader } from "./panel-header";
import { price } from "./palette";

const FUNCTIONS: { value: MountFunction; label: string }[] = [
  { value: "INPUT", label: "INPUT" },
  { value: "OUTPUT", label: "OUTPUT" },
  { value: "BOTH", label: "BOTH" },
];

export function NodePanel({
  node,
  title,
  onClose,
  onDuplicate,
  onDelete,
  onConnect,
}: {
  node: DrawnNode;
  title: string;
  onClose: () => void;
  onDuplicate: () => void;
  onDelete: () => void;
  onConnect: () => void;
}): JSX.Element {
  const run = useNodeRun(node.key);
  const ranOtherwise = useDrawnRun((drawnRun) => drawnRun.ranOtherwise(node.key));
  return (
    <>
      <PanelHeader title={title} onClose={onClose}>
        <KindLabel kind={node.service_type} />
        <span className="muted small panel__peer">
          on <PeerName peerId={node.peer_id} />
        </span>
        {run && <StateBadge state={run.status} />}
      </PanelHeader>
      <div className="panel__body">
        <FindingsOf node={node.key} />
        {ranOtherwise !== null && (
          <p className="note">
            Changed since <a href={`#/executions/${ranOtherwise}`}>execution {ranOtherwise}</a> ran it. What is under Run is of that run.
          </p>
        )}
        {run || ranOtherwise !== null ? (
          <Tabs
            key={node.key}
            label={`About ${title}`}
            tabs={[
              { id: "run", label: "Run", content: () => <NodeRunView node={node} /> },
              { id: "settings", label: "Settings", content: () => <Settings node={node} /> },
            ]}
          />
        ) : (
          <Settings node={node} />
        )}
      </div>
      <div className="panel__footer">
        <Button small icon="wire" needs="operate" onClick={onConnect}>
          Connect…
        </Button>
        <Button small icon="copy" needs="operate" onClick={onDuplicate}>
          Duplicate
        </Button>
        <Button small icon="trash" needs="operate" onClick={onDelete}>
          Delete
        </Button>
      </div>
    </>
  );
}

function NodeRunView({ node }: { node: DrawnNode }): JSX.Element {
  const { design } = useCanvas();
  const shown = useShownRun();
  const id = design.nodeKeys.idOf(node.key);
  const run = id === undefined ? undefined : shown?.nodes.get(id);
  if (!shown || !run || id === undefined) return <p className="muted">This node was not part of the last run.</p>;
  return (
    <div className="stack">
      {run.note && !isJobOver(run.status) && (
        <p className="note" role="status">
          {run.note}
        </p>
      )}
      <section className="panel__section" aria-label="Why">
        <h3>{isJobOver(run.status) ? "How it ended" : "Why it is where it is"}</h3>
        <div role={run.status === "ERRORED" ? "alert" : undefined}>
          <ExplainText executionId={shown.execution_id} nodeId={id} />
        </div>
      </section>
      {node.service_type !== "DATA" && (
        <section className="panel__section" aria-label="Logs">
          <h3>Logs</h3>
          <LogStreams
            key={node.key}
            first={run.status === "ERRORED" ? "stderr" : "stdout"}
            render={(stream) => (
              <LogText
                key={`${shown.execution_id} ${id} ${stream}`}
                executionId={shown.execution_id}
                nodeId={id}
                stream={stream}
                follow
              />
            )}
          />
        </section>
      )}
    </div>
  );
}

function Settings({ node }: { node: DrawnNode }): JSX.Element {
  const { design } = useCanvas();
  const change = (label: string, changes: Partial<DrawnNode>): void => {
    design.edit(label, [{ kind: "change_node", key: node.key, changes }]);
  };
  return (
    <Guarded needs="operate" key={node.key}>
      <DraftInput
        label="Name"
        value={node.name}
        placeholder={node.service_name}
        maxLength={128}
        hint="What people call this node; empty: as its service."
        onKeep={(name) => change("Rename", { name: name.trim() })}
      />
      {node.service_type !== "DATA" && (
        <>
          {node.service_type === "DOCKER" && (
            <CommandField
              label="Entrypoint"
              value={node.entrypoint}
              onKeep={(entrypoint) => change("Change the entrypoint", { entrypoint })}
            />
          )}
          <CommandField label="Command" value={node.cmd} onKeep={(cmd) => change("Change the command", { cmd })} />
          <Mounts node={node} />
        </>
      )}
      <Checkbox
        label="Pin to this revision"
        hint={
          node.service_revision === null
            ? "Which revision of the service was drawn is not known."
            : `It runs with revision ${node.service_revision} of the service or not at all.`
        }
        checked={node.pin}
        disabled={node.service_revision === null && !node.pin}
        onChange={(event) => change(event.target.checked ? "Pin" : "Unpin", { pin: event.target.checked })}
      />
      <Facts
        facts={[
          ["Service", node.service_name],
          ["Peer", <PeerName key="peer" peerId={node.peer_id} />],
          ["Price", price(node)],
        ]}
      />
    </Guarded>
  );
}

/** The MOUNTs of a node. Wires follow a path that is renamed, and go with a MOUNT that is removed. */
function Mounts({ node }: { node: DrawnNode }): JSX.Element {
  const { design } = useCanvas();
  const drawing = useDrawing();
  const mounts = node.interfaces.filter(({ interface_type }) => interface_type === "MOUNT");

  const replace = (label: string, old: ServiceInterface | null, next: ServiceInterface | null): void => {
    const interfaces = node.interfaces.flatMap((one) => (one === old ? (next ? [next] : []) : [one]));
    if (!old && next) interfaces.push(next);
    const changed: Edit = { kind: "change_node", key: node.key, changes: { interfaces } };
    const touched = old && old.path !== next?.path ? wiresOf(drawing, node.key).filter((wire) => uses(wire, old)) : [];
    const removed = touched.map((wire): Edit => ({ kind: "remove_wire", key: wire.key }));
    const added = next
      ? touched.map((wire): Edit => ({
          kind: "add_wire",
          wire: {
            ...wire,
            ...(isAt(endsOf(wire)[0], old) ? { from_interface_path: next.path } : {}),
            ...(isAt(endsOf(wire)[1], old) ? { to_interface_path: next.path } : {}),
          },
        }))
      : [];
    // Wires go first and come back last: at no moment does the daemon see one that leads nowhere.
    design.edit(label, [...removed, changed, ...added]);
  };
  const isAt = (end: { node: number | null; interface_type: string; path: string }, one: ServiceInterface | null): boolean =>
    end.node === node.key &&
    end.interface_type === "MOUNT" &&
    (end.path ? normalisePath(end.path) === normalisePath(one?.path ?? "") : mounts.length === 1);
  const uses = (wire: Parameters<typeof endsOf>[0], one: ServiceInterface): boolean =>
    endsOf(wire).some((end) => isAt(end, one));

  return (
    <fieldset className="field mounts">
      <legend className="field__label">Folders (MOUNT)</legend>
      {mounts.length === 0 && <p className="muted small">None. Streams are always there: STDIN, STDOUT, STDERR, LOGS.</p>}
      {mounts.map((mount, index) => (
        <div className="mount" key={index}>
          <DraftInput
            label={`Path of folder ${index + 1}`}
            mono
            value={mount.path}
            onKeep={(path) => replace("Change a path", mount, { ...mount, path: normalisePath(path.trim()) })}
          />
          <Select
            aria-label={`Function of ${mount.path}`}
            choices={FUNCTIONS}
            value={mount.mount_function ?? "BOTH"}
            onChange={(event) =>
              replace("Change a mount function", mount, {
                ...mount,
                mount_function: event.target.value as MountFunction,
              })
            }
          />
          <IconButton
            icon="trash"
            label={`Remove ${mount.path}`}
            onClick={() => replace(`Remove MOUNT ${mount.path}`, mount, null)}
          />
        </div>
      ))}
      <div>
        <Button
          small
          icon="add"
          onClick={() =>
            replace("Add a folder", null, {
              interface_type: "MOUNT",
              path: freePath(mounts),
              mount_function: "INPUT",
              required: false,
              description: "",
            })
          }
        >
          Add a folder
        </Button>
      </div>
    </fieldset>
  );
}

function freePath(mounts: readonly ServiceInterface[]): string {
  const taken = new Set(mounts.map(({ path }) => normalisePath(path)));
  for (let number = 1; ; number += 1) {
    const path = number === 1 ? "/data" : `/data${number}`;
    if (!taken.has(path)) return path;
  }
}

export function ManyPanel({
  nodes,
  wires,
  onClose,
  onDuplicate,
  onDelete,
}: {
  nodes: number;
  wires: number;
  onClose: () => void;
  onDuplicate: () => void;
  onDelete: () => void;
}): JSX.Element {
  const words = [
    nodes > 0 ? `${nodes} ${nodes === 1 ? "node" : "nodes"}` : "",
    wires > 0 ? `${wires} ${wires === 1 ? "wire" : "wires"}` : "",
  ];
  return (
    <>
      <PanelHeader title={words.filter(Boolean).join(" and ")} onClose={onClose}>
        <span className="muted small">chosen</span>
      </PanelHeader>
      <div className="panel__body">
        <p className="muted">Drag them together, or push them with the arrow keys.</p>
        <div className="row">
          {nodes > 0 && (
            <Button icon="copy" needs="operate" onClick={onDuplicate}>
              Duplicate
            </Button>
          )}
          <Button icon="trash" needs="operate" onClick={onDelete}>
            Delete
          </Button>
        </div>
      </div>
    </>
  );
}

