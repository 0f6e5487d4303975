// Where the bars and the marks of a timeline are, as fractions of its width. Pure.

export interface Span {
  key: string;
  label: string;
  /** What the label stands for in full, for its title. */
  title: string;
  kind: "job" | "transfer";
  state: string;
  /** Milliseconds since 1970; `null`: has not begun. */
  start: number | null;
  /** `null`: goes on. */
  end: number | null;
  detail: string;
}

export interface Bar extends Span {
  /** From 0 to 1; `null`: there is nothing to draw yet. */
  from: number | null;
  to: number | null;
}

export interface Mark {
  at: number;
  text: string;
}

export interface Timeline {
  bars: Bar[];
  marks: Mark[];
  /** Where now is; `null`: all is over. */
  now: number | null;
  start: number;
  seconds: number;
}

const STEPS_S = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200,
  10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
];
// Less than this would make bars of jobs that took no time look long.
const SHORTEST_S = 0.05;

/** The distance between marks so that there are at most `most` of them. */
export function stepFor(seconds: number, most: number): number {
  const step = STEPS_S.find((each) => seconds / each <= most);
  return step ?? Math.ceil(seconds / most / 604_800) * 604_800;
}

/** "0", "0.2 s", "15 s", "2 min", "1:30 h": short, and the same unit along one axis. */
export function markText(seconds: number, step: number): string {
  if (seconds === 0) return "0";
  if (step < 1) {
    const digits = step < 0.01 ? 3 : step < 0.1 ? 2 : 1;
    return `${seconds.toFixed(digits)} s`;
  }
  const s = Math.round(seconds);
  if (step < 60) return s < 60 ? `${s} s` : `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")} min`;
  const min = Math.round(s / 60);
  if (step < 3600) return min < 60 ? `${min} min` : `${Math.floor(min / 60)}:${String(min % 60).padStart(2, "0")} h`;
  const h = Math.round(s / 3600);
  return step < 86_400 ? `${h} h` : `${Math.round(h / 24)} d`;
}

/** Lay out spans between the first start and the last end, or now while something goes on. */
export function layOut(spans: readonly Span[], begun: number | null, ended: number | null, now: number, most = 6): Timeline {
  const starts = spans.flatMap(({ start }) => (start === null ? [] : [start]));
  if (begun !== null) starts.push(begun);
  const start = starts.length ? Math.min(...starts) : now;
  const ends = spans.flatMap(({ start: s, end }) => (s === null ? [] : [end ?? (ended === null ? now : ended)]));
  const last = Math.max(start, ended ?? now, ...(ended === null ? [] : ends));
  const seconds = Math.max(SHORTEST_S, (last - start) / 1000);
  const at = (time: number): number => Math.min(1, Math.max(0, (time - start) / 1000 / seconds));
  const bars = spans.map((span) => ({
    ...span,
    from: span.start === null ? null : at(span.start),
    to: span.start === null ? null : at(Math.max(span.start, span.end ?? (ended === null ? now : last))),
  }));
  const step = stepFor(seconds, most);
  const marks: Mark[] = [];
  for (let index = 0; index * step <= seconds * 1.0001; index += 1) {
    marks.push({ at: Math.min(1, (index * step) / seconds), text: markText(index * step, step) });
  }
  return { bars, marks, now: ended === null ? at(now) : null, start, seconds };
}
