import { useCallback, useState } from "react";
import { asRpcError } from "../rpc";
import type { RpcError } from "../rpc";

export interface Action<A extends unknown[]> {
  run: (...args: A) => Promise<boolean>;
  busy: boolean;
  error: RpcError | null;
  clear: () => void;
}

/** Something that takes a while and can fail: `run` answers whether it was done. */
export function useAction<A extends unknown[]>(action: (...args: A) => Promise<unknown>): Action<A> {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<RpcError | null>(null);
  const run = async (...args: A): Promise<boolean> => {
    setBusy(true);
    setError(null);
    try {
      await action(...args);
      return true;
    } catch (fault) {
      setError(asRpcError(fault));
      return false;
    } finally {
      setBusy(false);
    }
  };
  return { run, busy, error, clear: useCallback(() => setError(null), []) };
}
