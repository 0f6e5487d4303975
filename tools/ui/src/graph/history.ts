// Undo and redo: what was done, in steps that people would call one thing, each with the edits that take it back.

import { apply, inverse, meaningful } from "./drawing";
import type { Drawing, Edit } from "./drawing";

/** What is to be done now, and what people call it: "Delete 2 nodes". */
export interface Step {
  label: string;
  edits: readonly Edit[];
}

/** What was done, each edit with those that take it back. */
interface Noted {
  label: string;
  done: readonly { edit: Edit; back: readonly Edit[] }[];
}

const STEPS_MAX = 200;
const MERGED_WITHIN_MS = 1_000;

export class History {
  private done: Noted[] = [];
  private undone: Noted[] = [];
  private lastAt = 0;
  private lastMergeKey = "";

  /**
   * Note edits that are about to be applied to `drawing`. Two steps with the same `mergeKey` shortly after each other are
   * one: a node pushed along by the arrow keys goes back in one step.
   */
  record(drawing: Drawing, label: string, edits: readonly Edit[], now: number, mergeKey = ""): void {
    const step = note(drawing, label, edits);
    const last = this.done.at(-1);
    if (last && mergeKey !== "" && mergeKey === this.lastMergeKey && now - this.lastAt < MERGED_WITHIN_MS) {
      this.done[this.done.length - 1] = { label, done: [...last.done, ...step.done] };
    } else {
      this.done.push(step);
      if (this.done.length > STEPS_MAX) this.done.shift();
    }
    this.undone = [];
    this.lastAt = now;
    this.lastMergeKey = mergeKey;
  }

  /** The step to take back, with the edits that still mean something after what others did; `null` where there is none. */
  undo(drawing: Drawing): Step | null {
    return this.move(drawing, this.done, this.undone);
  }

  redo(drawing: Drawing): Step | null {
    return this.move(drawing, this.undone, this.done);
  }

  /** The daemon refused an edit: it never happened, whatever else its step did. */
  forget(refused: Edit): void {
    const rest = (steps: Noted[]): Noted[] =>
      steps
        .map((step) => ({ ...step, done: step.done.filter(({ edit }) => edit !== refused) }))
        .filter(({ done }) => done.length > 0);
    this.done = rest(this.done);
    this.undone = rest(this.undone);
  }

  get undoLabel(): string | null {
    return this.done.at(-1)?.label ?? null;
  }

  get redoLabel(): string | null {
    return this.undone.at(-1)?.label ?? null;
  }

  /** Take back the last step of `from`. What takes that back again is judged by the drawing as it is now, not as it was. */
  private move(drawing: Drawing, from: Noted[], to: Noted[]): Step | null {
    this.lastMergeKey = "";
    for (let step = from.pop(); step; step = from.pop()) {
      const edits = meaningful(drawing, [...step.done].reverse().flatMap(({ back }) => back));
      if (edits.length === 0) continue;
      to.push(note(drawing, step.label, edits));
      return { label: step.label, edits };
    }
    return null;
  }
}

function note(drawing: Drawing, label: string, edits: readonly Edit[]): Noted {
  let current = drawing;
  const done = edits.map((edit) => {
    const back = inverse(current, [edit]);
    current = apply(current, edit);
    return { edit, back };
  });
  return { label, done };
}
