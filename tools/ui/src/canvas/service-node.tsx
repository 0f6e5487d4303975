// A node on the canvas: what it is, where it runs, what it is doing, and the ends of its interfaces.

import { Handle, Position, useUpdateNodeInternals } from "@xyflow/react";
import type { NodeProps } from "@xyflow/react";
import type { JSX } from "react";
import { memo, useEffect, useRef } from "react";
import type { Key, NodeRef } from "../graph/drawing";
import { SELF_HANDLES, endLabel } from "../graph/handles";
import type { NodeHandle } from "../graph/handles";
import { Cut, Icon, StateBadge, useDirectory } from "../parts";
import { useCanvas, useNodeRun, useValue } from "./context";
import type { SelfFlowNode, ServiceFlowNode } from "./flow";

export const ServiceNode = memo(function ServiceNode({ id, data, selected }: NodeProps<ServiceFlowNode>): JSX.Element {
  const { node, title, handles } = data;
  const { nameOf, online } = useDirectory();
  const run = useNodeRun(node.key);
  const away = !online(node.peer_id);
  useHandlesMeasured(id, handles);
  return (
    <div className={`node ${selected ? "node--selected" : ""}`} data-run={run?.status}>
      <div className="node__header">
        <div className="node__line">
          <span className={`node__icon kind kind--${node.service_type}`}>
            <Icon name={node.service_type} />
          </span>
          <Cut text={title} className="node__title" />
          <Marks nodeKey={node.key} />
        </div>
        <div className="node__line">
          <span className="node__about" title={`${node.service_type} on ${node.peer_id}`}>
            <span className="cut">
              {nameOf(node.peer_id)}
              {away && " (offline)"}
            </span>
            <span> · {node.service_type}</span>
          </span>
          {run && <StateBadge state={run.status} />}
        </div>
      </div>
      <Ends refersTo={node.key} handles={handles} />
    </div>
  );
});

export const SelfNode = memo(function SelfNode({ selected }: NodeProps<SelfFlowNode>): JSX.Element {
  const { self } = useDirectory();
  return (
    <div className={`node node--self ${selected ? "node--selected" : ""}`}>
      <div className="node__header">
        <div className="node__line">
          <span className="node__icon kind">
            <Icon name="node" />
          </span>
          <Cut text="This peer" className="node__title" />
        </div>
        <div className="node__line">
          <span className="node__about" title={self?.peer_id}>
            <span className="cut">{self?.name ?? "Source and destination"}</span>
          </span>
        </div>
      </div>
      <Ends refersTo={null} handles={SELF_HANDLES} />
    </div>
  );
});

/** The canvas measures a node's ends once; wires would miss those that came or went since. */
function useHandlesMeasured(id: string, handles: readonly NodeHandle[]): void {
  const measure = useUpdateNodeInternals();
  const measured = useRef(handles);
  useEffect(() => {
    if (measured.current === handles) return;
    measured.current = handles;
    measure(id);
  }, [id, handles, measure]);
}

/** That a check found something here; what it is, is in the panel. */
function Marks({ nodeKey }: { nodeKey: Key }): JSX.Element | null {
  const { findings } = useCanvas();
  const found = useValue(findings, (held) => held?.nodes.get(nodeKey));
  if (!found) return null;
  const warningsOnly = found.every(({ warning }) => warning);
  const words = found.map(({ message }) => message).join("\n");
  return (
    <span className={`mark ${warningsOnly ? "mark--warning" : ""}`} title={words}>
      <Icon name="warn" />
      <span className="hidden-visually">
        {warningsOnly ? "Warning" : "Problem"}: {words}
      </span>
    </span>
  );
}

function Ends({ refersTo, handles }: { refersTo: NodeRef; handles: readonly NodeHandle[] }): JSX.Element {
  const ins = handles.filter(({ side }) => side === "in");
  const outs = handles.filter(({ side }) => side === "out");
  return (
    <div className="node__ends">
      <div className="node__side">
        {ins.map((handle) => (
          <EndRow key={handle.id} refersTo={refersTo} handle={handle} />
        ))}
      </div>
      <div className="node__side node__side--out">
        {outs.map((handle) => (
          <EndRow key={handle.id} refersTo={refersTo} handle={handle} />
        ))}
      </div>
    </div>
  );
}

function EndRow({ refersTo, handle }: { refersTo: NodeRef; handle: NodeHandle }): JSX.Element {
  const { drawn } = useCanvas();
  const { side, interface_type, path } = handle;
  // "" nothing is being drawn; otherwise whether this end may be joined to it.
  const fits = useValue(drawn, (held) => {
    if (!held) return "";
    return held.allows({ node: refersTo, side, interface_type, path }) ? "end--fits" : "end--unfit";
  });
  const label = endLabel({ node: refersTo, side, interface_type, path });
  const about = [
    handle.missing ? `${label} is no interface of this service any more` : label,
    handle.mount_function ? `mount function ${handle.mount_function}` : "",
    handle.required ? "required" : "",
    handle.description,
  ].filter(Boolean);
  const classes = ["end", `end--${interface_type}`, handle.missing ? "end--missing" : "", fits];
  return (
    <div className={classes.filter(Boolean).join(" ")} title={about.join(" · ")}>
      <Handle
        id={handle.id}
        type={side === "out" ? "source" : "target"}
        position={side === "out" ? Position.Right : Position.Left}
        isConnectable={!handle.missing}
      />
      <span className={interface_type === "MOUNT" ? "cut" : undefined}>{handle.required ? `${label} *` : label}</span>
    </div>
  );
}
