// The page of one workflow: services at the left, the canvas, and at the right whatever is chosen.

import { ReactFlowProvider } from "@xyflow/react";
import type { ClipboardEvent, JSX, KeyboardEvent } from "react";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import type { Key } from "../graph/drawing";
import { namesOf } from "../graph/rules";
import { isOver } from "../graph/run";
import { Empty, ErrorBox, Loading, useToasts } from "../parts";
import { RpcError, asRpcError, useClient } from "../rpc";
import { saveName } from "../views/file_names";
import { saveText } from "../views/files";
import "../style/canvas.css";
import { planned, useStillTrue, validated } from "./checks";
import { copied } from "./clipboard";
import { ConnectDialog } from "./connect-dialog";
import type { Ends } from "./connect-dialog";
import { Canvas, findingsOf, useCanvas, useDesign, useRunState, useValue } from "./context";
import type { CanvasContext, Findings, Selection, Wanted } from "./context";
import { DrawnRun } from "./drawn-run";
import { useEditing } from "./editing";
import { ExecuteDialog } from "./execute-dialog";
import { KeysDialog, isTyping, useClipboard, useDeleteKeys } from "./keys";
import { ManyPanel, NodePanel } from "./node-panel";
import { designOf, follow, isAnythingUnsent } from "./open-designs";
import { Palette } from "./palette";
import { RunStore } from "./run-store";
import { SelfPanel } from "./self-panel";
import { Surface } from "./surface";
import { Toolbar } from "./toolbar";
import { Value } from "./value";
import { WirePanel } from "./wire-panel";
import { WorkflowPanel } from "./workflow-panel";

const NOTHING: Selection = { nodes: [], wires: [], selfPeer: false };
// Below this the lists lie over the canvas instead of beside it.
const WIDE = "(min-width: 1100px)";

type Open = { dialog: "connect"; ends: Ends } | { dialog: "execute" } | { dialog: "keys" } | null;

/** The canvas of one workflow. */
export function WorkflowPage({ workflowId }: { workflowId: number }): JSX.Element {
  const client = useClient();
  const toasts = useToasts();
  const tell = useRef(toasts);
  tell.current = toasts;
  const context = useMemo<CanvasContext>(() => {
    const wanted = new Value<Wanted | null>(null);
    const design = designOf(client, workflowId, (error, label) => tell.current.fail(refused(error, label)));
    const runs = new RunStore(client, workflowId);
    return {
      client,
      design,
      runs,
      drawnRun: new DrawnRun(design, runs),
      findings: new Value<Findings | null>(null),
      selection: new Value<Selection>(NOTHING),
      drawn: new Value<CanvasContext["drawn"] extends Value<infer T> ? T : never>(null),
      labels: new Value<Element | null>(null),
      wanted,
      reveal: ({ node, wire }) =>
        wanted.set({
          ...(node === undefined ? {} : { nodes: [node] }),
          ...(wire === undefined ? {} : { wires: [wire] }),
          intoSight: true,
        }),
    };
  }, [client, workflowId]);

  useEffect(() => {
    const stops = [follow(context.design), context.runs.start()];
    return () => {
      for (const stop of stops) stop();
    };
  }, [context]);

  return (
    <Canvas.Provider value={context}>
      <Phases />
    </Canvas.Provider>
  );
}

function Phases(): JSX.Element {
  const { phase, error } = useDesign();
  const toAll = (
    <a className="button" href="#/workflows">
      All workflows
    </a>
  );
  if (phase === "ready") {
    return (
      <ReactFlowProvider>
        <Workbench />
      </ReactFlowProvider>
    );
  }
  return (
    <div className="page">
      <h1 className="hidden-visually">Workflow</h1>
      {phase === "loading" && <Loading what="Opening the workflow" />}
      {phase === "failed" && (
        <>
          <ErrorBox error={error} />
          <div>{toAll}</div>
        </>
      )}
      {phase === "deleted" && (
        <Empty icon="trash" title="This workflow has been deleted" actions={toAll}>
          Another window or client deleted it. Its executions are still there.
        </Empty>
      )}
    </div>
  );
}

function Workbench(): JSX.Element {
  const context = useCanvas();
  const { client, design, runs, findings, selection, wanted } = context;
  const { drawing, workflow } = useDesign();
  const toasts = useToasts();
  const chosen = useValue(selection, (held) => held);
  const [open, setOpen] = useState<Open>(null);
  const [showsPalette, setShowsPalette] = useState(() => matchMedia(WIDE).matches);
  const [showsPanel, setShowsPanel] = useState(() => matchMedia(WIDE).matches);
  const [checking, setChecking] = useState<"validate" | "plan" | null>(null);
  const news = useMemo(() => new Value(""), []);
  const root = useRef<HTMLDivElement>(null);
  const titles = useMemo(() => namesOf(drawing.nodes), [drawing.nodes]);

  useStillTrue(design, client, findings);

  // What was just added is chosen, and whoever adds wants to add more.
  const quiet = useRef(false);
  // Where there is no room beside the canvas, one list at a time lies over it.
  const openPanel = useCallback(() => {
    setShowsPanel(true);
    if (!matchMedia(WIDE).matches) setShowsPalette(false);
  }, []);
  const togglePalette = (): void => {
    setShowsPalette(!showsPalette);
    if (!showsPalette && !matchMedia(WIDE).matches) setShowsPanel(false);
  };

  useEffect(() => {
    // Where the panel lies over the canvas it comes with a choice and goes with it.
    if (matchMedia(WIDE).matches) return;
    if (quiet.current) {
      quiet.current = false;
      return;
    }
    if (chosen.nodes.length + chosen.wires.length > 0 || chosen.selfPeer) openPanel();
  }, [chosen, openPanel]);

  const { add, addInSight, connect, refuse, remove, paste, duplicate, arrange, undo, redo } = useEditing(root, news, quiet);
  const onAskEnds = useCallback((ends: Ends) => setOpen({ dialog: "connect", ends }), []);

  // ------------------------------------------------------------ checking and running

  const show = (found: Findings): void => {
    findings.set(found);
    letGo(wanted);
    openPanel();
  };

  const check = async (kind: "validate" | "plan"): Promise<void> => {
    setChecking(kind);
    try {
      await design.settled();
      show(kind === "validate" ? await validated(client, design) : await planned(client, design));
    } catch (fault) {
      const error = asRpcError(fault);
      if (error.problems.length > 0) show(findingsOf(design, kind, error.problems));
      else toasts.fail(error);
    } finally {
      setChecking(null);
    }
  };

  const exportFile = async (): Promise<void> => {
    try {
      await design.settled();
      const document = await client.call("workflow.export", { workflow_id: design.workflowId });
      saveText(saveName(workflow?.name ?? "workflow", ".rnd.json"), `${JSON.stringify(document, null, 2)}\n`);
    } catch (fault) {
      toasts.fail(fault);
    }
  };

  const importFile = async (file: File): Promise<void> => {
    try {
      const document = parsed(await file.text(), file.name);
      const made = await client.call<{ id: number }>("workflow.import", { document });
      location.hash = `#/workflows/${made.id}`;
    } catch (fault) {
      toasts.fail(asRpcError(fault));
    }
  };

  // ------------------------------------------------------------ keys

  const onKeyDown = (event: KeyboardEvent): void => {
    if (isTyping(event.target) || open) return;
    const key = event.key.toLowerCase();
    if (!(event.ctrlKey || event.metaKey)) {
      if (event.key === "?") setOpen({ dialog: "keys" });
      if (event.key === "Escape") letGo(wanted);
      return;
    }
    if (key === "z" && !event.shiftKey) undo();
    else if (key === "y" || (key === "z" && event.shiftKey)) redo();
    else if (key === "d") duplicate();
    else if (key === "a") wanted.set({ nodes: [...design.drawing.nodes.keys()], wires: [...design.drawing.wires.keys()] });
    else return;
    event.preventDefault();
  };

  const onCopy = (event: ClipboardEvent): void => {
    if (isTyping(event.target) || !getSelection()?.isCollapsed) return;
    const text = copied(design.drawing, selection.get().nodes);
    if (!text) return;
    event.clipboardData.setData("text/plain", text);
    event.preventDefault();
    if (event.type === "cut") remove(selection.get().nodes, []);
  };

  const onPaste = (event: ClipboardEvent): void => {
    if (isTyping(event.target)) return;
    if (paste(event.clipboardData.getData("text/plain"))) event.preventDefault();
  };
  useClipboard(root, onCopy, onPaste);
  useDeleteKeys(() => remove(selection.get().nodes, selection.get().wires));

  // ------------------------------------------------------------ what is shown

  const closePanel = (): void => {
    setShowsPanel(false);
    letGo(wanted);
  };
  const execute = (): void => setOpen({ dialog: "execute" });
  const node = chosen.nodes.length === 1 && chosen.wires.length === 0 ? drawing.nodes.get(chosen.nodes[0] as Key) : undefined;
  const wire = chosen.wires.length === 1 && chosen.nodes.length === 0 ? drawing.wires.get(chosen.wires[0] as Key) : undefined;
  const many = chosen.nodes.length + chosen.wires.length > 1;
  const connectFrom = (): void => {
    setOpen({ dialog: "connect", ends: node ? { from: { node: node.key } } : {} });
  };

  return (
    <div className="workbench" ref={root} tabIndex={-1} onKeyDown={onKeyDown}>
      <Toolbar
        showsPalette={showsPalette}
        showsPanel={showsPanel}
        checking={checking}
        onPalette={togglePalette}
        onPanel={() => (showsPanel ? closePanel() : openPanel())}
        onUndo={undo}
        onRedo={redo}
        onConnect={connectFrom}
        onArrange={arrange}
        onCheck={(kind) => void check(kind)}
        onExecute={execute}
        onExport={() => void exportFile()}
        onImport={(file) => void importFile(file)}
        onKeys={() => setOpen({ dialog: "keys" })}
        onProblems={() => {
          letGo(wanted);
          openPanel();
        }}
      />
      <div className="workbench__body">
        {showsPalette && <Palette onAdd={addInSight} onClose={() => setShowsPalette(false)} />}
        <div className="workbench__canvas">
          <Surface onDropService={add} onConnect={connect} onRefuse={refuse} onAskEnds={onAskEnds} />
          {drawing.nodes.size === 0 && (
            <div className="workbench__empty">
              <Empty icon="workflow" title="An empty canvas">
                Drag a service here, or press + beside it. Then draw wires between nodes, and to the card of this peer for
                what is to come back.
              </Empty>
            </div>
          )}
        </div>
        {showsPanel && (
          <aside className="panel" aria-label="Details">
            {node ? (
              <NodePanel
                node={node}
                title={titles.get(node.key) ?? ""}
                onClose={closePanel}
                onDuplicate={duplicate}
                onDelete={() => remove([node.key], [])}
                onConnect={connectFrom}
              />
            ) : wire ? (
              <WirePanel wire={wire} onClose={closePanel} onDelete={() => remove([], [wire.key])} />
            ) : many ? (
              <ManyPanel
                nodes={chosen.nodes.length}
                wires={chosen.wires.length}
                onClose={closePanel}
                onDuplicate={duplicate}
                onDelete={() => remove(chosen.nodes, chosen.wires)}
              />
            ) : chosen.selfPeer ? (
              <SelfPanel onClose={closePanel} onConnect={connectFrom} />
            ) : (
              <WorkflowPanel onClose={closePanel} onClearFindings={() => findings.set(null)} onRun={execute} />
            )}
          </aside>
        )}
      </div>
      {open?.dialog === "connect" && (
        <ConnectDialog
          drawing={drawing}
          start={open.ends}
          onClose={() => setOpen(null)}
          onConnect={(from, to) => {
            setOpen(null);
            connect(from, to);
          }}
        />
      )}
      {open?.dialog === "execute" && (
        <ExecuteDialog
          design={design}
          drawing={drawing}
          onClose={() => setOpen(null)}
          onExecuted={(id) => {
            setOpen(null);
            findings.set(null);
            letGo(wanted);
            runs.follow();
            openPanel();
            news.set(`Execution ${id} has begun`);
          }}
          onRefused={(error) => {
            if (error.problems.length > 0) findings.set(findingsOf(design, "execute", error.problems));
          }}
        />
      )}
      {open?.dialog === "keys" && <KeysDialog onClose={() => setOpen(null)} />}
      <News news={news} />
    </div>
  );
}

/** Tells those who do not see the canvas what has changed on it. */
function News({ news }: { news: Value<string> }): JSX.Element {
  const { run } = useRunState();
  const said = useValue(news, (held) => held);
  const ended = run && isOver(run.status) ? `Execution ${run.execution_id}: ${run.status.toLowerCase()}` : "";
  return (
    <>
      <div className="hidden-visually" role="status" aria-live="polite">
        {said}
      </div>
      <div className="hidden-visually" role="status" aria-live="polite">
        {ended}
      </div>
    </>
  );
}

// ---------------------------------------------------------------- effects

// Whatever view is shown: a window is not closed over what the daemon has not got without a question.
window.addEventListener("beforeunload", (event) => {
  if (isAnythingUnsent()) event.preventDefault();
});

function letGo(wanted: Value<Wanted | null>): void {
  wanted.set({});
}

/** A refusal of the daemon as one sentence for a passing message. */
function refused(error: RpcError, label: string): RpcError {
  const problems = error.problems.map(({ message }) => message);
  const message = problems.length > 0 ? problems.join("; ") : error.message;
  return new RpcError(error.code, `${label}: ${message}`, { error: error.error, hint: error.hint });
}

function parsed(text: string, name: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new RpcError(-32700, `${name} is no JSON`, { hint: "Choose a workflow file, as Export writes it." });
  }
}
