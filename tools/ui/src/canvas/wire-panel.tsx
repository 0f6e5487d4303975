// The settings of a chosen wire: which ends it joins, what it carries, under which name it arrives.

import type { JSX } from "react";
import type { DrawnWire, WireChanges } from "../graph/drawing";
import { endLabel, endsOf, handleAt, handlesOf, parseHandleId } from "../graph/handles";
import type { End, Side } from "../graph/handles";
import { namesOf, pairRefusal } from "../graph/rules";
import { Button, Facts, Field, Guarded, Select, StateBadge, format } from "../parts";
import { useCanvas, useDrawing, useWireRun } from "./context";
import { DraftInput, DraftLines } from "./drafts";
import { FindingsOf } from "./findings";
import { PanelHeader } from "./panel-header";

export function WirePanel({
  wire,
  onClose,
  onDelete,
}: {
  wire: DrawnWire;
  onClose: () => void;
  onDelete: () => void;
}): JSX.Element {
  const { design } = useCanvas();
  const drawing = useDrawing();
  const titles = namesOf(drawing.nodes);
  const run = useWireRun(wire.key);
  const [from, to] = endsOf(wire);
  const nameOf = (end: End): string => (end.node === null ? "this peer" : (titles.get(end.node) ?? "a deleted node"));
  const change = (label: string, changes: WireChanges): void => {
    design.edit(label, [{ kind: "change_wire", key: wire.key, changes }]);
  };
  return (
    <>
      <PanelHeader title={`${nameOf(from)} → ${nameOf(to)}`} onClose={onClose}>
        <span className="muted small">
          {endLabel(from)} → {endLabel(to)}
        </span>
        {run && <StateBadge state={run.status === "COMPLETED" ? "ARRIVED" : run.status} />}
      </PanelHeader>
      <div className="panel__body" key={wire.key}>
        <FindingsOf wire={wire.key} />
        {run && (
          <section className="panel__section" aria-label="Transfer">
            <h3>Transfer</h3>
            {run.error && (
              <div className="error-box" role="alert">
                <strong>{run.error}</strong>
              </div>
            )}
            {run.derived ? (
              <p className="muted">
                This peer has no part in it yet, or none at all: what is said here follows from the jobs at both ends, and how many bytes have
                passed only their peers know.
              </p>
            ) : (
              <>
                <progress
                  className="bar"
                  max={Math.max(run.size_bytes, 1)}
                  value={run.status === "COMPLETED" ? Math.max(run.size_bytes, 1) : run.bytes_done}
                  aria-label="Bytes moved"
                />
                <Facts
                  facts={[
                    ["Moved", `${format.bytes(run.bytes_done)} of ${format.bytes(run.size_bytes)}`],
                    ["Rate", run.status === "ACTIVE" || run.status === "COMPLETED" ? format.rate(run.rate_bytes_s) : "–"],
                    ["Attempts", String(run.attempts)],
                    ...(run.left_s ? ([["Left", format.duration(run.left_s)]] as const) : []),
                  ]}
                />
              </>
            )}
          </section>
        )}
        <Guarded needs="operate">
          {from.node !== null && (
            <EndField
              label={`From (${nameOf(from)})`}
              end={from}
              side="out"
              other={to}
              onChoose={(end) =>
                change("Change where a wire begins", {
                  from_interface_type: end.interface_type,
                  from_interface_path: end.path,
                })
              }
            />
          )}
          {to.node !== null && (
            <EndField
              label={`To (${nameOf(to)})`}
              end={to}
              side="in"
              other={from}
              onChoose={(end) =>
                change("Change where a wire ends", { to_interface_type: end.interface_type, to_interface_path: end.path })
              }
            />
          )}
          {from.node === null && (
            <DraftInput
              label="File or folder on this peer"
              mono
              value={wire.source_path ?? ""}
              placeholder="/home/me/input.csv"
              hint="An absolute path. Left empty, it is asked for when the workflow is executed, and can be uploaded then."
              onKeep={(path) => change("Change the source", { source_path: path.trim() || null })}
            />
          )}
          <DraftInput
            label="Destination file name"
            mono
            value={wire.destination_file_name ?? ""}
            placeholder="as it is called at the source"
            hint="“name” renames the one file that comes; “name/” is a folder for all of them."
            onKeep={(name) => change("Change the destination name", { destination_file_name: name.trim() || null })}
          />
          <DraftLines
            label="Only these files"
            lines={wire.include}
            placeholder="*.csv"
            hint="Patterns, one a line: *.csv, out/**. Empty: every file."
            onKeep={(lines) =>
              change("Change what a wire carries", { include: lines.map((line) => line.trim()).filter(Boolean) })
            }
          />
        </Guarded>
      </div>
      <div className="panel__footer">
        <Button small icon="trash" needs="operate" onClick={onDelete}>
          Delete
        </Button>
      </div>
    </>
  );
}

/** Which interface of its node a wire is joined to; what the rules do not allow says why. */
function EndField({
  label,
  end,
  side,
  other,
  onChoose,
}: {
  label: string;
  end: End;
  side: Side;
  other: End;
  onChoose: (end: End) => void;
}): JSX.Element {
  const drawing = useDrawing();
  const node = end.node === null ? undefined : drawing.nodes.get(end.node);
  const current = handleAt(end, node);
  const handles = node ? handlesOf(node).filter((handle) => handle.side === side) : [];
  const choices = handles.map((handle) => {
    const candidate: End = { node: end.node, side, interface_type: handle.interface_type, path: handle.path };
    const refused = side === "out" ? pairRefusal(candidate, other, drawing.nodes) : pairRefusal(other, candidate, drawing.nodes);
    return { value: handle.id, label: refused ? `${endLabel(candidate)} (not allowed)` : endLabel(candidate) };
  });
  if (!handles.some(({ id }) => id === current)) choices.unshift({ value: current, label: `${endLabel(end)} (missing)` });
  return (
    <Field label={label}>
      <Select
        choices={choices}
        value={current}
        onChange={(event) => onChoose({ node: end.node, ...parseHandleId(event.target.value) })}
      />
    </Field>
  );
}
