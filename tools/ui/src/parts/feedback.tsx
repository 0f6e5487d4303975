// What a view says when there is nothing, not yet anything, or when something went wrong.

import type { JSX, ReactNode } from "react";
import { useEffect, useRef } from "react";
import type { RpcError } from "../rpc";
import { Button } from "./button";
import { errorWords } from "./errors";
import { Icon } from "./icon";
import type { IconName } from "./icon";
import { stateWord, toneOf } from "./states";
import type { Tone } from "./states";

/** A state by colour and word. */
export function StateBadge({ state, word, tone }: { state: string; word?: string; tone?: Tone }): JSX.Element {
  return (
    <span className={`badge tone--${tone ?? toneOf(state)}`} data-state={state}>
      {word ?? stateWord(state)}
    </span>
  );
}

export function KindLabel({ kind }: { kind: "DATA" | "DOCKER" | "STANDALONE" }): JSX.Element {
  return (
    <span className={`kind kind--${kind}`}>
      <Icon name={kind} />
      {kind}
    </span>
  );
}

/** What went wrong, everything that is wrong, and what to do. */
export function ErrorBox({ error, onRetry }: { error: RpcError | Error | null; onRetry?: () => void }): JSX.Element | null {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // In a dialog that is longer than the window it would be told where nobody looks.
    if (box.current?.closest("dialog")) box.current.scrollIntoView({ block: "nearest" });
  }, [error]);
  if (!error) return null;
  const problems = "problems" in error ? error.problems : [];
  const { message, hint } = errorWords(error);
  const others = problems.filter(({ message }) => message !== error.message);
  const listed = others.length > 1 && others.every(({ message }) => error.message.includes(message));
  return (
    <div className="error-box" role="alert" ref={box}>
      <strong>{listed ? `${others.length} problems` : message}</strong>
      {others.length > 0 && (
        <ul>
          {others.map((problem, index) => (
            <li key={index}>{problem.message}</li>
          ))}
        </ul>
      )}
      {hint && <span>{hint}</span>}
      {onRetry && (
        <div>
          <Button small onClick={onRetry} icon="retry">
            Try again
          </Button>
        </div>
      )}
    </div>
  );
}

/** There is nothing here: why, and what to do about it. */
export function Empty({
  icon,
  title,
  heading = false,
  children,
  actions,
}: {
  icon?: IconName;
  title: string;
  /** It is all that the view has to say, so its title is the view's. */
  heading?: boolean;
  children?: ReactNode;
  actions?: ReactNode;
}): JSX.Element {
  return (
    <div className="empty">
      {icon && <Icon name={icon} />}
      {heading ? <h1>{title}</h1> : <strong>{title}</strong>}
      {children && <p>{children}</p>}
      {actions && <div className="empty__actions">{actions}</div>}
    </div>
  );
}

export function Loading({ what = "Loading" }: { what?: string }): JSX.Element {
  return (
    <div className="loading" role="status">
      <span className="spinner" aria-hidden="true" />
      {what}…
    </div>
  );
}
