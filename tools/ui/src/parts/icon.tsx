// The designer's few icons, drawn on a 16 px grid. They never stand alone: what they mean is said in words beside them.

import type { JSX } from "react";

const PATHS = {
  add: "M8 3v10M3 8h10",
  close: "M4 4l8 8M12 4l-8 8",
  more: "M3.5 8h.01M8 8h.01M12.5 8h.01",
  check: "M3 8.5l3.5 3.5L13 5",
  copy: "M6 6h7v7H6zM3 10V3h7",
  trash: "M3 4.5h10M6.5 4V2.5h3V4M4.5 4.5l.6 9h5.8l.6-9",
  edit: "M3 13l.7-3L10.5 3.2l2.3 2.3L6 12.3z",
  download: "M8 2.5v8M4.5 7.5L8 11l3.5-3.5M3 13.5h10",
  upload: "M8 11V3M4.5 6.5L8 3l3.5 3.5M3 13.5h10",
  play: "M5 3l8 5-8 5z",
  stop: "M4 4h8v8H4z",
  retry: "M13 8a5 5 0 1 1-1.6-3.7M13 2.5v3h-3",
  refresh: "M13 8a5 5 0 1 1-1.6-3.7M13 2.5v3h-3",
  eye: "M1.5 8s2.5-4.5 6.5-4.5S14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8zM8 6.2a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6z",
  help: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM6.3 6.3A1.8 1.8 0 1 1 8 8.5v.8M8 11.3h.01",
  lock: "M4 7.5h8V13H4zM5.5 7.5V5.2a2.5 2.5 0 0 1 5 0v2.3",
  unlock: "M4 7.5h8V13H4zM5.5 7.5V5.2a2.5 2.5 0 0 1 4.8-1",
  workflow: "M2 3h4v3H2zM10 3h4v3h-4zM6 10h4v3H6zM4 6v1.5h8V6M8 7.5V10",
  list: "M5.5 4H14M5.5 8H14M5.5 12H14M2.5 4h.01M2.5 8h.01M2.5 12h.01",
  service: "M8 1.8l5.5 3v6.4L8 14.2l-5.5-3V4.8zM2.5 4.8L8 8l5.5-3.2M8 8v6.2",
  peers: "M5.5 3a2 2 0 1 0 0 4 2 2 0 0 0 0-4zM1.8 13c0-2.2 1.6-3.7 3.7-3.7S9.2 10.8 9.2 13M10.5 3.4a2 2 0 0 1 0 3.4M11.3 9.6c1.8.3 2.9 1.6 2.9 3.4",
  node: "M2.5 3h11v4h-11zM2.5 9h11v4h-11zM5 5h.01M5 11h.01",
  DATA: "M8 2c3 0 5 .9 5 2s-2 2-5 2-5-.9-5-2 2-2 5-2zM3 4v8c0 1.1 2 2 5 2s5-.9 5-2V4M3 8c0 1.1 2 2 5 2s5-.9 5-2",
  DOCKER: "M8 1.8l5.5 3v6.4L8 14.2l-5.5-3V4.8zM2.5 4.8L8 8l5.5-3.2M8 8v6.2",
  STANDALONE: "M2 3h12v10H2zM4.5 6l2 2-2 2M8 10.5h3",
  signout: "M9.5 2.5h-6v11h6M6.5 8h7M11 5.5L13.5 8 11 10.5",
  back: "M9.5 3.5L5 8l4.5 4.5",
  undo: "M3 6h6.5a3.5 3.5 0 0 1 0 7H6M5.5 3.5L3 6l2.5 2.5",
  redo: "M13 6H6.5a3.5 3.5 0 0 0 0 7H10M10.5 3.5L13 6l-2.5 2.5",
  arrange: "M2 2.5h4v4H2zM10 2.5h4v4h-4zM10 9.5h4v4h-4zM6 4.5h4M8 4.5v7h2",
  wire: "M4 2.5a2 2 0 1 0 0 4 2 2 0 0 0 0-4zM12 9.5a2 2 0 1 0 0 4 2 2 0 0 0 0-4zM6 4.5c5 0-1 7 4 7",
  fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  grid: "M2.5 2.5h11v11h-11zM6.2 2.5v11M9.8 2.5v11M2.5 6.2h11M2.5 9.8h11",
  minus: "M3 8h10",
  warn: "M8 2.2l6.3 11H1.7zM8 6.5v3M8 11.4h.01",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }): JSX.Element {
  return (
    <svg className={`icon icon--${name}`} viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
