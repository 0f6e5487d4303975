// What lies over the canvas: buttons to look closer, the small map, and which run is shown.

import { MiniMap, Panel, useReactFlow } from "@xyflow/react";
import type { JSX } from "react";
import { useCallback, useEffect, useRef, useState } from "react";
import { IconButton, toneOf } from "../parts";
import { useCanvas, useDesign, useDrawnRun } from "./context";
import { FIT } from "./editing";
import type { FlowNode } from "./flow";

const OVERVIEW_EVERY_MS = 500;
const SMALL = { width: 160, height: 120 };

/** That the states on the canvas are those of a run of what was drawn before. */
export function OtherDrawing(): JSX.Element | null {
  const executionId = useDrawnRun(({ otherDrawing }) => otherDrawing);
  if (executionId === null) return null;
  return (
    <Panel position="top-left" className="other-drawing">
      <div role="status">
        <a href={`#/executions/${executionId}`}>Execution {executionId}</a> is shown. The drawing has changed since: what is not as it
        ran shows no state.
      </div>
    </Panel>
  );
}

export function Tools({ snapToGrid }: { snapToGrid: boolean }): JSX.Element {
  const { design } = useCanvas();
  const flow = useReactFlow();
  return (
    <Panel position="bottom-left" className="tools">
      <IconButton icon="add" label="Zoom in" onClick={() => void flow.zoomIn()} />
      <IconButton icon="minus" label="Zoom out" onClick={() => void flow.zoomOut()} />
      <IconButton icon="fit" label="Show everything" onClick={() => void flow.fitView(FIT)} />
      <IconButton
        icon="grid"
        label="Snap to grid"
        aria-pressed={snapToGrid}
        onClick={() => design.setSnapToGrid(!snapToGrid)}
      />
    </Panel>
  );
}

export function Overview(): JSX.Element {
  const { drawing } = useDesign();
  const jobs = useSlowly(useDrawnRun(({ nodes }) => nodes), OVERVIEW_EVERY_MS);
  const color = useCallback(
    (node: FlowNode) => {
      if (node.type !== "service") return "var(--color-accent)";
      const run = jobs.get(node.data.node.key);
      return run ? `var(--state-${toneOf(run.status)})` : "var(--color-border-strong)";
    },
    [jobs],
  );
  if (drawing.nodes.size === 0) return <></>;
  return <MiniMap<FlowNode> position="bottom-right" style={SMALL} pannable zoomable ariaLabel="Map of the canvas" nodeColor={color} nodeBorderRadius={6} />;
}

/** A value, at most every so often: the map redraws every node at once. */
function useSlowly<T>(value: T, everyMs: number): T {
  const [shown, setShown] = useState(value);
  const latest = useRef(value);
  latest.current = value;
  const isBehind = shown !== value;
  useEffect(() => {
    if (!isBehind) return undefined;
    const timer = setTimeout(() => setShown(latest.current), everyMs);
    return () => clearTimeout(timer);
  }, [isBehind, everyMs]);
  return shown;
}
