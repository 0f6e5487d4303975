// What the keyboard does on the page of a workflow.

import type { ClipboardEvent, JSX } from "react";
import { useEffect, useRef } from "react";
import { Dialog } from "../parts";

const KEYS: readonly (readonly [string, string])[] = [
  ["Tab", "Next control, node or wire"],
  ["Enter", "Choose the node or wire that has the focus"],
  ["Arrow keys", "Move the chosen nodes"],
  ["Delete", "Delete what is chosen"],
  ["Escape", "Choose nothing"],
  ["Ctrl Z, Ctrl Shift Z", "Undo, redo"],
  ["Ctrl C, Ctrl V, Ctrl X", "Copy, paste, cut nodes, also between windows"],
  ["Ctrl D", "Duplicate the chosen nodes"],
  ["Ctrl A", "Choose everything"],
  ["Shift and drag", "Choose what lies in a frame"],
  ["?", "This list"],
];

export function KeysDialog({ onClose }: { onClose: () => void }): JSX.Element {
  return (
    <Dialog title="Keys" onClose={onClose}>
      <dl className="keys">
        {KEYS.map(([keys, does]) => (
          <div key={keys} className="keys__row">
            <dt>
              <kbd>{keys}</kbd>
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}

/** Delete and Backspace wherever the focus is, except in texts, and in dialogs and menus that lie over the page. */
export function useDeleteKeys(remove: () => void): void {
  const latest = useRef(remove);
  latest.current = remove;
  useEffect(() => {
    const onKey = ({ key, target, defaultPrevented }: globalThis.KeyboardEvent): void => {
      if ((key !== "Delete" && key !== "Backspace") || defaultPrevented || isWriting(target)) return;
      if (document.querySelector("dialog[open], [role=menu]") === null) latest.current();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);
}

/** Copy and paste anywhere on the page, except in fields: a canvas cannot hold the caret that the browser wants for it. */
export function useClipboard(
  root: { current: HTMLElement | null },
  onCopy: (event: ClipboardEvent) => void,
  onPaste: (event: ClipboardEvent) => void,
): void {
  const latest = useRef({ onCopy, onPaste });
  latest.current = { onCopy, onPaste };
  useEffect(() => {
    const isHere = (target: EventTarget | null): boolean =>
      target === document.body || (target instanceof Node && root.current?.contains(target) === true);
    const copy = (event: Event): void => {
      if (isHere(event.target)) latest.current.onCopy(event as unknown as ClipboardEvent);
    };
    const paste = (event: Event): void => {
      if (isHere(event.target)) latest.current.onPaste(event as unknown as ClipboardEvent);
    };
    document.addEventListener("copy", copy);
    document.addEventListener("cut", copy);
    document.addEventListener("paste", paste);
    return () => {
      document.removeEventListener("copy", copy);
      document.removeEventListener("cut", copy);
      document.removeEventListener("paste", paste);
    };
  }, [root]);
}

export function isTyping(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest("input, textarea, select, [contenteditable], dialog") !== null;
}

/** A box to tick holds no text, nor does a list to choose from. */
function isWriting(target: EventTarget | null): boolean {
  return target instanceof Element && target.matches("input:not([type=checkbox], [type=radio], [type=file]), textarea, [contenteditable]");
}
