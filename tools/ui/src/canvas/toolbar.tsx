// What can be done with the whole workflow, and whether what was done is in the database.

import type { JSX, KeyboardEvent } from "react";
import { useRef, useState } from "react";
import { isOver } from "../graph/run";
import { Button, IconButton, Menu, StateBadge, TextInput, useToasts } from "../parts";
import { useScopeRefusal } from "../rpc";
import { useCanvas, useDesign, useRunState, useValue } from "./context";

export interface ToolbarProps {
  showsPalette: boolean;
  showsPanel: boolean;
  checking: "validate" | "plan" | null;
  onPalette: () => void;
  onPanel: () => void;
  onUndo: () => void;
  onRedo: () => void;
  onConnect: () => void;
  onArrange: () => void;
  onCheck: (kind: "validate" | "plan") => void;
  onExecute: () => void;
  onExport: () => void;
  onImport: (file: File) => void;
  onKeys: () => void;
  onProblems: () => void;
}

export function Toolbar(props: ToolbarProps): JSX.Element {
  const { undoLabel, redoLabel } = useDesign();
  const file = useRef<HTMLInputElement>(null);
  return (
    <header className="toolbar">
      <IconButton
        icon="service"
        label={props.showsPalette ? "Hide services" : "Show services"}
        aria-pressed={props.showsPalette}
        onClick={props.onPalette}
      />
      <Name />
      <SavedMark />
      <div className="toolbar__group" role="group" aria-label="Edit">
        <IconButton
          icon="undo"
          label={undoLabel ? `Undo: ${undoLabel}` : "Undo"}
          disabled={!undoLabel}
          onClick={props.onUndo}
        />
        <IconButton
          icon="redo"
          label={redoLabel ? `Redo: ${redoLabel}` : "Redo"}
          disabled={!redoLabel}
          onClick={props.onRedo}
        />
        <IconButton icon="wire" needs="operate" label="Add a connection…" onClick={props.onConnect} />
        <IconButton icon="arrange" needs="operate" label="Arrange automatically" onClick={props.onArrange} />
      </div>
      <div className="toolbar__group toolbar__group--end" role="group" aria-label="Run">
        <ProblemCount onOpen={props.onProblems} />
        <RunChip onOpen={props.onProblems} />
        <Button icon="check" busy={props.checking === "validate"} onClick={() => props.onCheck("validate")}>
          Check
        </Button>
        <Button busy={props.checking === "plan"} onClick={() => props.onCheck("plan")} title="Ask every executor whether it would take its job">
          Plan
        </Button>
        <Button kind="primary" icon="play" needs="operate" onClick={props.onExecute}>
          Execute…
        </Button>
        <Menu
          label="More"
          small={false}
          items={[
            { label: "Export to a file", icon: "download", onSelect: props.onExport },
            { label: "Import a file as a new workflow", icon: "upload", needs: "operate", onSelect: () => file.current?.click() },
            { label: "Keys", icon: "help", onSelect: props.onKeys },
          ]}
        />
        <IconButton
          icon="list"
          label={props.showsPanel ? "Hide details" : "Show details"}
          aria-pressed={props.showsPanel}
          onClick={props.onPanel}
        />
      </div>
      <input
        ref={file}
        type="file"
        accept=".json,application/json"
        className="hidden-visually"
        tabIndex={-1}
        aria-label="Workflow file to import"
        onChange={(event) => {
          const chosen = event.target.files?.[0];
          event.target.value = "";
          if (chosen) props.onImport(chosen);
        }}
      />
    </header>
  );
}

/** The workflow's name, changed where it stands. */
function Name(): JSX.Element {
  const { design } = useCanvas();
  const { workflow } = useDesign();
  const toasts = useToasts();
  const refused = useScopeRefusal()("operate");
  const [draft, setDraft] = useState<string | null>(null);
  const name = workflow?.name ?? "";
  const keep = (): void => {
    const wanted = draft?.trim() ?? "";
    setDraft(null);
    if (wanted !== "" && wanted !== name) void design.describe({ name: wanted }).catch(toasts.fail);
  };
  const onKeyDown = (event: KeyboardEvent<HTMLInputElement>): void => {
    if (event.key === "Escape") {
      setDraft(null);
      event.stopPropagation();
    } else if (event.key === "Enter") event.currentTarget.blur();
  };
  return (
    <h1 className="toolbar__name" title={refused ?? name}>
      <span className="hidden-visually">{name}</span>
      <TextInput
        aria-label="Name of the workflow"
        className="input--name"
        maxLength={200}
        size={Math.min(Math.max((draft ?? name).length, 12), 60)}
        disabled={refused !== null}
        value={draft ?? name}
        onChange={(event) => setDraft(event.target.value)}
        onBlur={keep}
        onKeyDown={onKeyDown}
      />
    </h1>
  );
}

function SavedMark(): JSX.Element {
  const { unsaved, online } = useDesign();
  const [state, word, tone] =
    unsaved === 0 && online
      ? (["saved", "Saved", "done"] as const)
      : online
        ? (["saving", "Saving", "running"] as const)
        : unsaved > 0
          ? (["unsaved", `Not saved, offline (${unsaved})`, "failed"] as const)
          : (["offline", "Offline", "waiting"] as const);
  return (
    <span className="toolbar__saved" role="status" aria-live={online ? "off" : "polite"}>
      <StateBadge state={state} word={word} tone={tone} />
    </span>
  );
}

function ProblemCount({ onOpen }: { onOpen: () => void }): JSX.Element | null {
  const { findings } = useCanvas();
  const count = useValue(findings, (held) => held?.problems.filter(({ warning }) => !warning).length ?? null);
  if (count === null || count === 0) return null;
  return (
    <button type="button" className="chip" onClick={onOpen}>
      <StateBadge state="FAILED" word={count === 1 ? "1 problem" : `${count} problems`} />
    </button>
  );
}

function RunChip({ onOpen }: { onOpen: () => void }): JSX.Element | null {
  const { run, hidden } = useRunState();
  if (!run || (hidden && isOver(run.status))) return null;
  return (
    <button type="button" className="chip" onClick={onOpen} title={`Execution ${run.execution_id}`}>
      <span className="hidden-visually">Execution {run.execution_id}: </span>
      <StateBadge
        state={run.status}
        {...(run.cancelRequested ? { word: "Cancelling", tone: "stopped" as const } : {})}
      />
    </button>
  );
}
