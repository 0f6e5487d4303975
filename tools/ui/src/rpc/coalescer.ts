// Many reasons to read something anew, few reads: never two at once, and those that come while one runs share the next.

export class Coalescer {
  private readonly read: () => Promise<void>;
  private readonly gatherMs: number;
  private running = false;
  private again = false;
  private stopped = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(read: () => Promise<void>, gatherMs = 120) {
    this.read = read;
    this.gatherMs = gatherMs;
  }

  /** Read soon; further asks until then are the same one. */
  ask(): void {
    if (this.stopped || this.timer !== undefined) return;
    this.timer = setTimeout(() => this.now(), this.gatherMs);
  }

  /** Read at once, or right after the read that is under way. */
  now(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.stopped) return;
    if (this.running) {
      this.again = true;
      return;
    }
    this.running = true;
    void this.read().finally(() => {
      this.running = false;
      if (!this.again) return;
      this.again = false;
      this.ask();
    });
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
  }
}
