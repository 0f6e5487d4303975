import type { ButtonHTMLAttributes, JSX, ReactNode } from "react";
import { useEffect, useState } from "react";
import { useScopeRefusal } from "../rpc";
import type { Scope } from "../rpc";
import { Icon } from "./icon";
import type { IconName } from "./icon";

export interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  kind?: "default" | "primary" | "danger" | "ghost";
  small?: boolean;
  icon?: IconName;
  /** Something is under way: the button turns and takes no further press. */
  busy?: boolean;
  /** The scope that what it does needs of the page's token. */
  needs?: Scope;
  children?: ReactNode;
}

export function Button({
  kind = "default",
  small = false,
  icon,
  busy = false,
  needs,
  disabled,
  title,
  className = "",
  children,
  ...rest
}: ButtonProps): JSX.Element {
  const refused = useScopeRefusal()(needs);
  const classes = ["button", kind === "default" ? "" : `button--${kind}`, small ? "button--small" : "", className];
  return (
    <button
      type="button"
      {...rest}
      className={classes.filter(Boolean).join(" ")}
      disabled={disabled === true || busy || refused !== null}
      title={refused ?? title}
      aria-busy={busy || undefined}
    >
      {busy ? <span className="spinner" aria-hidden="true" /> : icon && <Icon name={icon} />}
      {children}
    </button>
  );
}

export interface IconButtonProps extends Omit<ButtonProps, "children" | "icon"> {
  icon: IconName;
  /** What it does, for those who do not see it; also shown on hover. */
  label: string;
}

export function IconButton({ icon, label, className = "", kind = "ghost", ...rest }: IconButtonProps): JSX.Element {
  return (
    <Button {...rest} kind={kind} icon={icon} aria-label={label} title={label} className={`button--icon ${className}`} />
  );
}

/** Copies a text and says so on itself. */
export function CopyButton({
  text,
  label = "Copy",
  what,
  small = false,
  kind = "default",
}: {
  text: string;
  label?: string;
  /** What is copied, where "Copy" alone does not say it. */
  what?: string;
  small?: boolean;
  kind?: "default" | "primary" | "ghost";
}): JSX.Element {
  const [told, setTold] = useState<"" | "Copied" | "Select and copy it">("");
  useEffect(() => {
    if (!told) return undefined;
    const timer = setTimeout(() => setTold(""), 2000);
    return () => clearTimeout(timer);
  }, [told]);
  const copy = (): void => {
    copyText(text).then(
      () => setTold("Copied"),
      () => setTold("Select and copy it"),
    );
  };
  return (
    <Button
      small={small}
      kind={kind}
      icon={told === "Copied" ? "check" : "copy"}
      onClick={copy}
      aria-label={told || !what ? undefined : `${label} ${what}`}
    >
      <span aria-live="polite">{told || label}</span>
    </Button>
  );
}

/** The clipboard of a page that is not served from a secure origin exists only through a selection. */
async function copyText(text: string): Promise<void> {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "hidden-visually";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("not copied");
}
