import type { JSX } from "react";
import { useEffect, useState } from "react";
import { absolute, relative } from "./format";

/** One line, cut where there is no room; the whole is in the title. */
export function Cut({ text, className = "" }: { text: string; className?: string }): JSX.Element {
  return (
    <span className={`cut ${className}`} title={text}>
      {text}
    </span>
  );
}

/** The time, again every `everyMs`. */
export function useNow(everyMs = 1000): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

/** How long ago, with the exact time in the title. */
export function Time({ time }: { time: string | null }): JSX.Element {
  const now = useNow(5000);
  if (!time) return <span className="muted">never</span>;
  return (
    <time dateTime={time} title={absolute(time)} className="nowrap">
      {relative(time, now)}
    </time>
  );
}
