import type { FormEvent, JSX, ReactNode } from "react";
import { useEffect, useId, useRef, useState } from "react";
import { asRpcError } from "../rpc";
import type { RpcError } from "../rpc";
import { Button, IconButton } from "./button";
import { ErrorBox } from "./feedback";

export interface DialogProps {
  title: ReactNode;
  onClose: () => void;
  wide?: boolean;
  children: ReactNode;
  /** Buttons at the foot. With `onSubmit` the whole is a form, and a button of type submit sends it. */
  footer?: ReactNode;
  onSubmit?: () => void;
}

/** A modal dialog: the browser's own, which keeps the focus inside and closes at Escape. */
export function Dialog({ title, onClose, wide = false, children, footer, onSubmit }: DialogProps): JSX.Element {
  const ref = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  useEffect(() => {
    const dialog = ref.current;
    const before = document.activeElement;
    if (dialog && !dialog.open) {
      dialog.showModal();
      focusFirst(dialog);
    }
    return () => {
      dialog?.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    event.stopPropagation();
    onSubmit?.();
  };
  const inside = (
    <>
      <div className="dialog__body">{children}</div>
      {footer && <div className="dialog__footer">{footer}</div>}
    </>
  );
  return (
    <dialog
      ref={ref}
      className={`dialog ${wide ? "dialog--wide" : ""}`}
      aria-labelledby={titleId}
      onCancel={(event) => {
        if (event.target !== event.currentTarget) return;
        event.preventDefault();
        onClose();
      }}
      onClose={(event) => {
        if (event.target === event.currentTarget) onClose();
      }}
    >
      <header className="dialog__header">
        <h2 id={titleId} className="cut">
          {title}
        </h2>
        <IconButton icon="close" label="Close" onClick={onClose} />
      </header>
      {onSubmit ? (
        <form className="dialog__form" onSubmit={submit} noValidate>
          {inside}
        </form>
      ) : (
        inside
      )}
    </dialog>
  );
}

/** The focus goes to the first field, else to the button that does it: the browser alone would take the one that closes. */
function focusFirst(dialog: HTMLDialogElement): void {
  const wanted = ".dialog__body :is(input, select, textarea):enabled, .dialog__footer [type=submit]:enabled";
  for (const element of dialog.querySelectorAll<HTMLElement>(wanted)) {
    element.focus(); // in vain where it is folded away
    if (document.activeElement === element) return;
  }
}

/** Asks before something is done that cannot be undone; says what will be, and what went wrong if it did. */
export function ConfirmDialog({
  title,
  children,
  action,
  onConfirm,
  onClose,
  danger = true,
}: {
  title: ReactNode;
  children: ReactNode;
  /** The verb on the button. */
  action: string;
  onConfirm: () => Promise<unknown>;
  onClose: () => void;
  danger?: boolean;
}): JSX.Element {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<RpcError | null>(null);
  const confirm = (): void => {
    setBusy(true);
    setError(null);
    onConfirm().then(onClose, (fault: unknown) => {
      setError(asRpcError(fault));
      setBusy(false);
    });
  };
  return (
    <Dialog
      title={title}
      onClose={onClose}
      onSubmit={confirm}
      footer={
        <>
          <Button onClick={onClose}>Go back</Button>
          <Button type="submit" kind={danger ? "danger" : "primary"} busy={busy} autoFocus>
            {action}
          </Button>
        </>
      }
    >
      {children}
      {error && <ErrorBox error={error} />}
    </Dialog>
  );
}
