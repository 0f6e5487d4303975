// What the daemon has against a drawing: all of it in a list, and beside what it is about.

import type { JSX } from "react";
import { sameButPlaces } from "../graph/drawing";
import type { Key } from "../graph/drawing";
import { Button, Icon, StateBadge } from "../parts";
import { useCanvas, useDrawing, useValue } from "./context";
import type { Finding, Findings } from "./context";

const SOURCES: Record<Findings["source"], { title: string; fine: string }> = {
  validate: { title: "Check", fine: "The drawing follows every rule." },
  plan: { title: "Plan", fine: "Every executor would take its job, and every connection has a way." },
  execute: { title: "Not executed", fine: "" },
};

/** Problems of one node or one wire. */
export function FindingsOf({ node, wire }: { node?: Key; wire?: Key }): JSX.Element | null {
  const { findings } = useCanvas();
  const found = useValue(findings, (held) => {
    if (node !== undefined) return held?.nodes.get(node);
    return wire === undefined ? undefined : held?.wires.get(wire);
  });
  if (!found) return null;
  const problems = found.filter(({ warning }) => !warning);
  const warnings = found.filter(({ warning }) => warning);
  return (
    <>
      {problems.length > 0 && <Box findings={problems} />}
      {warnings.length > 0 && <Box findings={warnings} warning />}
    </>
  );
}

function Box({ findings, warning = false }: { findings: readonly Finding[]; warning?: boolean }): JSX.Element {
  return (
    <div className={warning ? "note note--warn" : "error-box"}>
      <ul className="plain">
        {findings.map(({ message }, index) => (
          <li key={index}>{message}</li>
        ))}
      </ul>
    </div>
  );
}

/** Everything the last check found; each leads to what it is about. */
export function FindingsList({ onClear }: { onClear: () => void }): JSX.Element | null {
  const { findings, reveal } = useCanvas();
  const held = useValue(findings, (value) => value);
  const drawing = useDrawing();
  if (!held) return null;
  const { title, fine } = SOURCES[held.source];
  const count = held.problems.filter(({ warning }) => !warning).length;
  return (
    <section className="panel__section" aria-label="Problems" aria-live="polite">
      <div className="row row--spread">
        <h3>
          {title}{" "}
          <StateBadge
            state={count === 0 ? "COMPLETED" : "FAILED"}
            word={count === 0 ? "Fine" : count === 1 ? "1 problem" : `${count} problems`}
          />
        </h3>
        {!sameButPlaces(held.drawing, drawing) && <span className="muted small">before your last change</span>}
        <Button small kind="ghost" onClick={onClear}>
          Dismiss
        </Button>
      </div>
      {held.problems.length === 0 ? (
        <p className="muted">{fine}</p>
      ) : (
        <ul className="problems">
          {held.problems.map((finding, index) => (
            <li key={index}>
              <ProblemRow finding={finding} onReveal={reveal} />
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function ProblemRow({
  finding,
  onReveal,
}: {
  finding: Finding;
  onReveal: (keys: { node?: Key; wire?: Key }) => void;
}): JSX.Element {
  const { node, wire, message, warning } = finding;
  const inside = (
    <>
      <span className={`mark ${warning ? "mark--warning" : ""}`}>
        <Icon name="warn" />
        <span className="hidden-visually">{warning ? "Warning:" : "Problem:"}</span>
      </span>
      <span>{message}</span>
    </>
  );
  if (node === null && wire === null) return <div className="problem">{inside}</div>;
  return (
    <button
      type="button"
      className="problem problem--leads"
      onClick={() => onReveal(wire === null ? { node: node as Key } : { wire })}
    >
      {inside}
    </button>
  );
}
