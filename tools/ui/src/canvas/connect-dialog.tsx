// Drawing a wire without a mouse: both ends chosen from lists, and the rule at once where they do not fit.

import type { JSX } from "react";
import { useMemo, useState } from "react";
import type { Drawing, NodeRef } from "../graph/drawing";
import { endLabel, handleId } from "../graph/handles";
import type { End, Side } from "../graph/handles";
import { nodeElementId, parseNodeElementId } from "../graph/ids";
import { chosenHandle, endAt, fittingPair, handlesAt } from "../graph/pairs";
import type { Ends } from "../graph/pairs";
import { namesOf, refusal } from "../graph/rules";
import { Button, Dialog, Field, Select } from "../parts";

export type { Ends };

export function ConnectDialog({
  drawing,
  start,
  onConnect,
  onClose,
}: {
  drawing: Drawing;
  start: Ends;
  onConnect: (from: End, to: End) => void;
  onClose: () => void;
}): JSX.Element {
  const titles = useMemo(() => namesOf(drawing.nodes), [drawing.nodes]);
  const [first] = useState(() => fittingPair(drawing, start));
  const [fromNode, setFromNode] = useState<NodeRef>(first[0]);
  const [toNode, setToNode] = useState<NodeRef>(first[1]);
  const [fromHandle, setFromHandle] = useState(() => chosenHandle(start.from, "out"));
  const [toHandle, setToHandle] = useState(() => chosenHandle(start.to, "in"));

  const nodes = (side: Side): { value: string; label: string }[] => [
    { value: nodeElementId(null), label: side === "out" ? "This peer (files of mine)" : "This peer (results)" },
    ...[...drawing.nodes.keys()].map((key) => ({ value: nodeElementId(key), label: titles.get(key) ?? "" })),
  ];
  const from = endAt(drawing, fromNode, "out", fromHandle);
  const to = endAt(drawing, toNode, "in", toHandle, from);
  const refused = from && to ? refusal(drawing, from, to) : { message: `${missing(drawing, fromNode, toNode)}` };
  const submit = (): void => {
    if (from && to && !refused) onConnect(from, to);
  };

  return (
    <Dialog
      title="Add a connection"
      onClose={onClose}
      onSubmit={submit}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" disabled={refused !== null}>
            Connect
          </Button>
        </>
      }
    >
      <div className="form-grid">
        <Field label="From">
          <Select
            choices={nodes("out")}
            value={nodeElementId(fromNode)}
            onChange={(event) => {
              setFromNode(parseNodeElementId(event.target.value));
              setFromHandle("");
            }}
          />
        </Field>
        <Field label="From interface">
          <Select
            choices={handleChoices(drawing, fromNode, "out")}
            value={from ? handleId(from) : ""}
            onChange={(event) => setFromHandle(event.target.value)}
          />
        </Field>
        <Field label="To">
          <Select
            choices={nodes("in")}
            value={nodeElementId(toNode)}
            onChange={(event) => {
              setToNode(parseNodeElementId(event.target.value));
              setToHandle("");
            }}
          />
        </Field>
        <Field label="To interface">
          <Select
            choices={handleChoices(drawing, toNode, "in")}
            value={to ? handleId(to) : ""}
            onChange={(event) => setToHandle(event.target.value)}
          />
        </Field>
      </div>
      <div role="status" aria-live="polite">
        {refused ? (
          <div className="note note--warn">{refused.message}</div>
        ) : (
          <div className="note">These two fit together.</div>
        )}
      </div>
    </Dialog>
  );
}

function handleChoices(drawing: Drawing, ref: NodeRef, side: Side): { value: string; label: string }[] {
  const handles = handlesAt(drawing, ref, side);
  if (handles.length === 0) return [{ value: "", label: side === "in" ? "takes no input" : "sends nothing" }];
  return handles.map((handle) => ({ value: handle.id, label: endLabel({ node: ref, ...handle }) }));
}

function missing(drawing: Drawing, from: NodeRef, to: NodeRef): string {
  const target = to === null ? undefined : drawing.nodes.get(to);
  if (target && handlesAt(drawing, to, "in").length === 0) {
    const source = from === null ? undefined : drawing.nodes.get(from);
    if (source?.service_type === "DATA") return "Cannot download from DATA service on remote peer";
    return `DATA service ${target.service_name} takes no input: its files are fixed`;
  }
  return "Choose both ends.";
}
