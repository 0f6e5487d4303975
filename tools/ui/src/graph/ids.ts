// What the daemon calls a row and what this window calls it: a key stays when its row gets another id.

import type { Key } from "./drawing";

/**
 * Keys of one kind of thing. What the daemon tells of first is called by its id; what is made here by a negative number.
 * A row that was deleted and made again by undo has a new id and its old key.
 */
export class Keys {
  private readonly keyById = new Map<number, Key>();
  private readonly idByKey = new Map<Key, number>();
  private readonly used = new Set<Key>();
  private nextKey = -1;

  /** A key for what is made in this window. */
  fresh(): Key {
    const key = this.nextKey--;
    this.used.add(key);
    return key;
  }

  /** The key of a row the daemon tells of; one that was never heard of gets one. */
  keyOf(id: number): Key {
    const known = this.keyById.get(id);
    if (known !== undefined) return known;
    // A history may still speak of the key that this id would give.
    const key = this.used.has(id) ? this.fresh() : id;
    this.bind(key, id);
    return key;
  }

  knows(id: number): boolean {
    return this.keyById.has(id);
  }

  idOf(key: Key): number | undefined {
    return this.idByKey.get(key);
  }

  /** The row of a key has this id from now on. */
  bind(key: Key, id: number): void {
    this.release(key);
    this.keyById.set(id, key);
    this.idByKey.set(key, id);
    this.used.add(key);
  }

  /** The row of a key is gone; the key itself stays taken. */
  release(key: Key): void {
    const id = this.idByKey.get(key);
    if (id === undefined) return;
    this.idByKey.delete(key);
    this.keyById.delete(id);
  }

  /** The rows of all other keys are gone. */
  releaseAllBut(kept: { has: (key: Key) => boolean }): void {
    for (const key of [...this.idByKey.keys()]) if (!kept.has(key)) this.release(key);
  }
}

const SELF = "self";

/** What the canvas calls a node: a string. */
export function nodeElementId(ref: Key | null): string {
  return ref === null ? SELF : `n${ref}`;
}

export function parseNodeElementId(id: string): Key | null {
  return id === SELF ? null : Number(id.slice(1));
}

export function wireElementId(key: Key): string {
  return `w${key}`;
}

export function parseWireElementId(id: string): Key {
  return Number(id.slice(1));
}
