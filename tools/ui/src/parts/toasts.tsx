import type { JSX, ReactNode } from "react";
import { createContext, useCallback, useContext, useEffect, useMemo, useRef, useState } from "react";
import { asRpcError } from "../rpc";
import { IconButton } from "./button";
import { errorWords } from "./errors";

export interface Toasts {
  /** Say that something was done. */
  say: (text: string) => void;
  /** Say that something failed, with what to do. */
  fail: (fault: unknown) => void;
}

interface Toast {
  id: number;
  text: string;
  hint: string;
  error: boolean;
}

const SAID_MS = 5000;
const FAILED_MS = 15_000;

const ToastContext = createContext<Toasts>({ say: () => undefined, fail: () => undefined });

export function useToasts(): Toasts {
  return useContext(ToastContext);
}

/** Holds the messages that come and go at the foot of the page. */
export function ToastProvider({ children }: { children: ReactNode }): JSX.Element {
  const [toasts, setToasts] = useState<Toast[]>([]);
  const next = useRef(1);
  const host = useRef<HTMLDivElement>(null);
  const drop = useCallback((id: number) => setToasts((all) => all.filter((toast) => toast.id !== id)), []);
  const api = useMemo<Toasts>(() => {
    const show = (text: string, hint: string, error: boolean): void => {
      const id = next.current++;
      setToasts((all) => [...all.slice(-3), { id, text, hint, error }]);
      setTimeout(() => drop(id), error ? FAILED_MS : SAID_MS);
    };
    return {
      say: (text) => show(text, "", false),
      fail: (fault) => {
        const { message, hint } = errorWords(asRpcError(fault));
        show(message, hint, true);
      },
    };
  }, [drop]);
  useEffect(() => {
    // Above open dialogs too: the browser stacks those over everything but another popover.
    const element = host.current;
    if (!element || typeof element.showPopover !== "function") return;
    if (element.matches(":popover-open")) element.hidePopover();
    if (toasts.length > 0) element.showPopover();
  }, [toasts]);
  return (
    <ToastContext.Provider value={api}>
      {children}
      <div className="toasts" ref={host} popover="manual" role="status" aria-live="polite">
        {toasts.map((toast) => (
          <div key={toast.id} className={`toast ${toast.error ? "toast--error" : ""}`}>
            <div className="toast__text">
              {toast.text}
              {toast.hint && <div className="muted small">{toast.hint}</div>}
            </div>
            <IconButton small icon="close" label="Dismiss" onClick={() => drop(toast.id)} />
          </div>
        ))}
      </div>
    </ToastContext.Provider>
  );
}
