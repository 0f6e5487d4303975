// Stands in for d3-transition in the bundle: the canvas moves at once, never by an animation. What d3-zoom asks of a transition is
// there, and arrives in one step. With d3_interpolate.ts this leaves out a tenth of the bundle: timers, easing, colours.

import { selection } from "d3-selection";

type Handler = (this: unknown, ...args: unknown[]) => void;

interface Selection {
  each(visit: Handler): Selection;
}

class Jump {
  private readonly starts: Handler[] = [];
  private readonly ends: Handler[] = [];

  constructor(private readonly chosen: Selection) {}

  duration(): this {
    return this;
  }

  ease(): this {
    return this;
  }

  call(action: (jump: this, ...args: unknown[]) => void, ...args: unknown[]): this {
    action(this, ...args);
    return this;
  }

  on(types: string, handler: Handler): this {
    for (const type of types.split(" ")) {
      if (type.startsWith("start")) this.starts.push(handler);
      if (type.startsWith("end")) this.ends.push(handler);
    }
    return this;
  }

  tween(_name: string, begin: (this: unknown, ...args: unknown[]) => (this: unknown, at: number) => void): this {
    const { starts, ends } = this;
    this.chosen.each(function (...args) {
      for (const start of starts) start.apply(this, args);
      begin.apply(this, args).call(this, 1);
      for (const end of ends) end.apply(this, args);
    });
    return this;
  }
}

Object.assign(selection.prototype, {
  interrupt(this: Selection) {
    return this;
  },
  transition(this: Selection) {
    return new Jump(this);
  },
});

/** Nothing is under way that could be interrupted. */
export function interrupt(): void {}
