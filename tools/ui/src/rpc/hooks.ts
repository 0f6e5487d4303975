// What React components use of the client: the client itself, its state, and values that stay true while they are shown.

import { createContext, useCallback, useContext, useEffect, useRef, useState, useSyncExternalStore } from "react";
import type { DependencyList } from "react";
import { same } from "../graph/drawing";
import { OFFLINE, RpcError } from "./client";
import type { Scope } from "./types";
import type { Client, DaemonEvent, StateChange } from "./client";
import { Coalescer } from "./coalescer";

export const ClientContext = createContext<Client | null>(null);

/** The client of the daemon this page is signed in to. */
export function useClient(): Client {
  const client = useContext(ClientContext);
  if (!client) throw new Error("useClient is used outside of ClientContext");
  return client;
}

const SCOPES: readonly Scope[] = ["read", "operate", "admin"];

/** Says why this page's token may not do what needs a scope; `null` where it may. The daemon decides: this is to say it beforehand. */
export function useScopeRefusal(): (needs: Scope | undefined) => string | null {
  const client = useContext(ClientContext);
  const scope = useSyncExternalStore(
    useCallback((changed) => client?.onState(changed) ?? (() => undefined), [client]),
    () => client?.scope ?? null,
  );
  return useCallback(
    (needs) =>
      needs === undefined || scope === null || SCOPES.indexOf(scope) >= SCOPES.indexOf(needs)
        ? null
        : `It needs a token of scope ${needs}; this page is signed in with one of scope ${scope}.`,
    [scope],
  );
}

export function useConnection(): StateChange {
  const client = useClient();
  return useSyncExternalStore(
    useCallback((changed) => client.onState(changed), [client]),
    () => client.connection,
  );
}

export interface Live<T> {
  /** The newest value; it stays while a newer one is read, also while the daemon is away. */
  value: T | undefined;
  error: RpcError | null;
  /** Nothing has been read yet and nothing went wrong. */
  loading: boolean;
  reload: () => void;
}

export interface LiveOptions {
  /** Which events of the types make the value stale; all of them where not given. */
  concerns?: (event: DaemonEvent) => boolean;
  /** How long events are gathered before the value is read anew. */
  gatherMs?: number;
  /** Show the old value until the new one is read where a dependency changes: pages of one list. */
  keep?: boolean;
}

/** Read a value, and again at events of these types, at a gap, after a reconnect and when the dependencies change. */
export function useLive<T>(
  load: (client: Client) => Promise<T>,
  types: readonly string[],
  dependencies: DependencyList = [],
  options: LiveOptions = {},
): Live<T> {
  const client = useClient();
  const [value, setValue] = useState<T | undefined>(undefined);
  const [error, setError] = useState<RpcError | null>(null);
  const latest = useRef({ load, options });
  latest.current = { load, options };
  const reader = useRef<Coalescer | null>(null);

  useEffect(() => {
    let wanted = true;
    if (!latest.current.options.keep) setValue(undefined);
    setError(null);
    const coalescer = new Coalescer(async () => {
      try {
        const read = await latest.current.load(client);
        if (!wanted) return;
        // What says the same stays the same object, and is not drawn anew.
        setValue((before) => (same(before, read) ? before : read));
        setError(null);
      } catch (fault) {
        // The banner tells that the daemon is away; what is shown stays.
        if (wanted && !(fault instanceof RpcError && fault.error === OFFLINE)) setError(asRpcError(fault));
      }
    }, latest.current.options.gatherMs);
    reader.current = coalescer;
    const stopEvents =
      types.length === 0
        ? () => undefined
        : client.subscribe(types, (event) => {
            const { concerns } = latest.current.options;
            if (event.type === "gap" || !concerns || concerns(event)) coalescer.ask();
          });
    const stopState = client.onState(({ state }) => {
      if (state === "online") coalescer.now();
    });
    coalescer.now();
    return () => {
      wanted = false;
      coalescer.stop();
      stopEvents();
      stopState();
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps -- the caller names what the value depends on
  }, [client, types.join(" "), ...dependencies]);

  const reload = useCallback(() => reader.current?.now(), []);
  return { value, error, loading: value === undefined && error === null, reload };
}

/** Read again every so often what changes without an event, and when people come back to the window. */
export function useReread(reload: () => void, everyMs: number): void {
  useEffect(() => {
    const reread = (): void => {
      if (!document.hidden) reload();
    };
    const timer = setInterval(reread, everyMs);
    addEventListener("focus", reread);
    return () => {
      clearInterval(timer);
      removeEventListener("focus", reread);
    };
  }, [reload, everyMs]);
}

export function asRpcError(fault: unknown): RpcError {
  if (fault instanceof RpcError) return fault;
  return new RpcError(0, fault instanceof Error ? fault.message : String(fault), { error: "INTERNAL" });
}
