/** A value that components listen to in part. */
export class Value<T> {
  private readonly listeners = new Set<() => void>();

  constructor(private held: T) {}

  readonly get = (): T => this.held;

  set(held: T): void {
    if (held === this.held) return;
    this.held = held;
    for (const listener of [...this.listeners]) listener();
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => {
      this.listeners.delete(listener);
    };
  };
}
