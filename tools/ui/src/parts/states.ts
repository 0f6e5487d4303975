// What every state word of the contract means to the eye: a tone, beside the word itself.

export type Tone = "idle" | "waiting" | "running" | "done" | "failed" | "stopped";

const TONES: Record<string, Tone> = {
  PENDING: "waiting",
  IDLE: "waiting",
  READY: "waiting",
  RUNNING: "running",
  ACTIVE: "running",
  COMPLETED: "done",
  FAILED: "failed",
  ERRORED: "failed",
  CANCELLED: "stopped",
  INACTIVE: "idle",
  WAITING: "waiting",
  BEING_SENT: "running",
  ARRIVED: "done",
  NOT_SENT: "stopped",
  pending: "waiting",
  allowed: "done",
  denied: "failed",
};

export function toneOf(state: string): Tone {
  return TONES[state] ?? "idle";
}

/** "COMPLETED" -> "Completed", "BEING_SENT" -> "Being sent". */
export function stateWord(state: string): string {
  return state.charAt(0).toUpperCase() + state.slice(1).toLowerCase().replaceAll("_", " ");
}

const TERMINAL: ReadonlySet<string> = new Set(["COMPLETED", "FAILED", "ERRORED", "CANCELLED"]);

export function isTerminal(state: string): boolean {
  return TERMINAL.has(state);
}
