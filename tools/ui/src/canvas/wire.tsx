// A wire on the canvas, and beside it what it carries or how far it is.

import { BaseEdge, getBezierPath } from "@xyflow/react";
import type { EdgeProps } from "@xyflow/react";
import type { JSX } from "react";
import { memo } from "react";
import { createPortal } from "react-dom";
import { toneOf } from "../parts";
import { useCanvas, useValue, useWireRun } from "./context";
import type { WireEdge } from "./flow";
import { runWords } from "./wire-words";

export const Wire = memo(function Wire(props: EdgeProps<WireEdge>): JSX.Element {
  const { sourceX, sourceY, targetX, targetY, sourcePosition, targetPosition, data } = props;
  const key = data?.key ?? 0;
  const { findings, labels } = useCanvas();
  const layer = useValue(labels, (held) => held);
  const run = useWireRun(key);
  const found = useValue(findings, (held) => held?.wires.get(key));
  const [path, x, y] = getBezierPath({ sourceX, sourceY, targetX, targetY, sourcePosition, targetPosition });
  const broken = found?.some(({ warning }) => !warning) ?? false;
  const tone = broken ? "failed" : run ? toneOf(run.status) : "";
  const [above, below] = broken ? ["Problem", ""] : run ? runWords(run) : [data?.label ?? "", ""];
  return (
    <g className={`wire ${tone ? `wire--${tone}` : ""} ${props.selected ? "wire--selected" : ""}`}>
      {above !== "" && <title>{found?.map(({ message }) => message).join("\n") ?? [above, below].filter(Boolean).join(", ")}</title>}
      <BaseEdge id={props.id} path={path} interactionWidth={20} />
      {above !== "" &&
        layer &&
        createPortal(
          <div className="wire__label" style={{ left: x, top: y }}>
            <span>{above}</span>
            {below !== "" && <span>{below}</span>}
          </div>,
          layer,
        )}
    </g>
  );
});
