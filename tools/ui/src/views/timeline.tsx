// The Gantt chart of an execution: a drawing, and the same as a table.

import type { JSX } from "react";
import { useMemo, useState } from "react";
import { Button, StateBadge, Table, Tabs, format, stateWord, toneOf, useNow } from "../parts";
import type { Column } from "../parts";
import { layOut } from "./gantt";
import type { Bar, Span, Timeline } from "./gantt";

const ROW_PX = 28;
const AXIS_PX = 24;
const BAR_PX = 12;
// Each row is drawn anew twice a second while something goes on.
const CHART_ROWS = 100;

interface Props {
  spans: readonly Span[];
  begun: string | null;
  ended: string | null;
}

export function TimelineView({ spans, begun, ended }: Props): JSX.Element {
  const [rows, setRows] = useState(CHART_ROWS);
  return (
    <Tabs
      label="Timeline as"
      tabs={[
        {
          id: "chart",
          label: "Chart",
          content: () => (
            <>
              {ended ? (
                <Chart spans={spans} begun={begun} ended={ended} now={Date.parse(ended)} rows={rows} />
              ) : (
                <LiveChart spans={spans} begun={begun} rows={rows} />
              )}
              {spans.length > rows && (
                <div className="pager">
                  <span>
                    {rows} of {spans.length}
                  </span>
                  <Button small onClick={() => setRows(Infinity)}>
                    Show all
                  </Button>
                </div>
              )}
            </>
          ),
        },
        { id: "table", label: "Table", content: () => <SpanTable spans={spans} begun={begun} /> },
      ]}
    />
  );
}

function LiveChart(props: Omit<Props, "ended"> & { rows: number }): JSX.Element {
  const now = useNow(500);
  return <Chart {...props} ended={null} now={now} />;
}

function Chart({ spans, begun, ended, now, rows }: Props & { now: number; rows: number }): JSX.Element {
  const timeline = useMemo(() => {
    const whole = layOut(spans, begun ? Date.parse(begun) : null, ended ? Date.parse(ended) : null, now);
    return { ...whole, bars: whole.bars.slice(0, rows) };
  }, [spans, begun, ended, now, rows]);
  return (
    <div className="gantt" role="group" aria-label="Timeline" tabIndex={0}>
      <div className="gantt__labels" aria-hidden="true">
        <div className="gantt__head muted small">Since the start</div>
        {timeline.bars.map((bar) => (
          <div key={bar.key} className={`gantt__label gantt__label--${bar.kind}`} title={bar.title}>
            <span className="cut">{bar.label}</span>
          </div>
        ))}
      </div>
      <Drawing timeline={timeline} />
      <div className="gantt__words" aria-hidden="true">
        <div className="gantt__head" />
        {timeline.bars.map((bar) => (
          <div key={bar.key} className="gantt__label muted small">
            {stateWord(bar.state)}
          </div>
        ))}
      </div>
    </div>
  );
}

function Drawing({ timeline }: { timeline: Timeline }): JSX.Element {
  const height = AXIS_PX + timeline.bars.length * ROW_PX;
  return (
    <svg
      className="gantt__drawing"
      height={height}
      width="100%"
      role="img"
      aria-label={`Timeline of ${format.count(timeline.bars.length, "job or transfer", "jobs and transfers")} over ${format.duration(timeline.seconds)}. The tab Table says the same in words.`}
    >
      {timeline.marks.map((mark) => (
        <g key={mark.text}>
          <line className="gantt__mark" x1={percent(mark.at)} x2={percent(mark.at)} y1={AXIS_PX} y2={height} />
          <text className="gantt__tick" x={percent(mark.at)} y={16} textAnchor={anchor(mark.at)}>
            {mark.text}
          </text>
        </g>
      ))}
      {timeline.bars.map((bar, index) => (
        <BarDrawing key={bar.key} bar={bar} y={AXIS_PX + index * ROW_PX} />
      ))}
      {timeline.now !== null && (
        <line className="gantt__now" x1={percent(timeline.now)} x2={percent(timeline.now)} y1={AXIS_PX} y2={height} />
      )}
    </svg>
  );
}

function BarDrawing({ bar, y }: { bar: Bar; y: number }): JSX.Element {
  const middle = y + ROW_PX / 2;
  const tone = toneOf(bar.state);
  const word = `${bar.title}: ${stateWord(bar.state)}${bar.detail ? `, ${bar.detail}` : ""}`;
  if (bar.from === null || bar.to === null) {
    return (
      <g>
        <title>{word}</title>
        <line className="gantt__row" x1="0" x2="100%" y1={y} y2={y} />
      </g>
    );
  }
  return (
    <g>
      <title>{word}</title>
      <line className="gantt__row" x1="0" x2="100%" y1={y} y2={y} />
      {bar.kind === "job" && bar.from > 0 && (
        <line className="gantt__wait" x1="0" x2={percent(bar.from)} y1={middle} y2={middle} />
      )}
      <rect
        className={`gantt__bar gantt__bar--${bar.kind} tone-fill--${tone}`}
        x={percent(bar.from)}
        y={middle - (bar.kind === "job" ? BAR_PX : BAR_PX / 2) / 2}
        width={percent(bar.to - bar.from)}
        height={bar.kind === "job" ? BAR_PX : BAR_PX / 2}
        rx="3"
      />
      {/* What took no time is still there. */}
      <rect
        className={`tone-fill--${tone}`}
        x={percent(bar.from)}
        y={middle - (bar.kind === "job" ? BAR_PX : BAR_PX / 2) / 2}
        width="3"
        height={bar.kind === "job" ? BAR_PX : BAR_PX / 2}
        rx="1.5"
      />
    </g>
  );
}

function percent(fraction: number): string {
  return `${(fraction * 100).toFixed(3)}%`;
}

function anchor(at: number): "start" | "middle" | "end" {
  if (at < 0.04) return "start";
  return at > 0.96 ? "end" : "middle";
}

function SpanTable({ spans, begun }: { spans: readonly Span[]; begun: string | null }): JSX.Element {
  const zero = begun ? Date.parse(begun) : null;
  const columns: Column<Span>[] = [
    {
      name: "What",
      head: true,
      className: "cell--wide",
      cell: (row) => (
        <span className="cut" title={row.title}>
          {row.label}
        </span>
      ),
    },
    { name: "Kind", cell: (row) => (row.kind === "job" ? "Job" : "Transfer") },
    { name: "State", cell: (row) => <StateBadge state={row.state} /> },
    {
      name: "Begins after",
      className: "cell--number",
      cell: (row) => (row.start === null || zero === null ? "–" : format.duration((row.start - zero) / 1000)),
    },
    {
      name: "Took",
      className: "cell--number",
      cell: (row) => (row.start === null || row.end === null ? "–" : format.duration((row.end - row.start) / 1000)),
    },
    { name: "Detail", className: "nowrap", cell: (row) => <span className="muted">{row.detail || "–"}</span> },
  ];
  return <Table caption="Jobs and transfers by time" columns={columns} rows={spans} keyOf={(row) => row.key} />;
}
