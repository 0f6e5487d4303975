// The card of this peer: what it sends and where results come to.

import type { JSX } from "react";
import { isOver } from "../graph/run";
import { namesOf } from "../graph/rules";
import { endLabel, endsOf } from "../graph/handles";
import type { DrawnWire } from "../graph/drawing";
import { useCanvas, useDrawing, useRunState } from "./context";
import { PanelHeader } from "./panel-header";
import { ResultsSection } from "./workflow-panel";
import { Button } from "../parts";

export function SelfPanel({ onClose, onConnect }: { onClose: () => void; onConnect: () => void }): JSX.Element {
  const drawing = useDrawing();
  const { run } = useRunState();
  const wires = [...drawing.wires.values()];
  const sent = wires.filter((wire) => wire.from === null);
  const received = wires.filter((wire) => wire.to === null);
  return (
    <>
      <PanelHeader title="This peer" onClose={onClose}>
        <span className="muted small">source and destination</span>
      </PanelHeader>
      <div className="panel__body">
        <p className="muted">
          A wire from this card sends files of this machine to a job; a wire to it brings results here.
        </p>
        <WireList title="Sends" wires={sent} none="Sends nothing yet." />
        <WireList title="Receives" wires={received} none="Receives nothing yet: without a wire to this card no result comes back." />
        {run && <ResultsSection executionId={run.execution_id} over={isOver(run.status)} />}
      </div>
      <div className="panel__footer">
        <Button small icon="wire" needs="operate" onClick={onConnect}>
          Connect…
        </Button>
      </div>
    </>
  );
}

function WireList({ title, wires, none }: { title: string; wires: readonly DrawnWire[]; none: string }): JSX.Element {
  const { reveal } = useCanvas();
  const drawing = useDrawing();
  const titles = namesOf(drawing.nodes);
  return (
    <section className="panel__section" aria-label={title}>
      <h3>{title}</h3>
      {wires.length === 0 && <p className="muted">{none}</p>}
      <ul className="problems">
        {wires.map((wire) => {
          const [from, to] = endsOf(wire);
          const other = from.node === null ? to : from;
          const what = wire.source_path?.split("/").at(-1) ?? wire.destination_file_name ?? "";
          return (
            <li key={wire.key}>
              <button type="button" className="problem problem--leads" onClick={() => reveal({ wire: wire.key })}>
                <span className="cut">
                  {other.node === null ? "" : titles.get(other.node)} · {endLabel(other)}
                  {what && ` · ${what}`}
                </span>
              </button>
            </li>
          );
        })}
      </ul>
    </section>
  );
}
