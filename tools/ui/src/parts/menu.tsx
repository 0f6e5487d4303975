import type { JSX, KeyboardEvent } from "react";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "react";
import { useScopeRefusal } from "../rpc";
import type { Scope } from "../rpc";
import { Button, IconButton } from "./button";
import { Icon } from "./icon";
import type { IconName } from "./icon";

export interface MenuItem {
  label: string;
  icon?: IconName;
  danger?: boolean;
  disabled?: boolean;
  /** The scope that it needs of the page's token. */
  needs?: Scope;
  onSelect: () => void;
}

/** A button that opens a list of actions. Arrow keys move, Escape closes, the focus goes back to the button. */
export function Menu({
  label,
  text,
  items,
  small = true,
}: {
  label: string;
  /** Shown on the button; without it the button is three dots. */
  text?: string;
  items: readonly MenuItem[];
  small?: boolean;
}): JSX.Element {
  const refusalOf = useScopeRefusal();
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const id = useId();

  const close = (refocus: boolean): void => {
    setOpen(false);
    if (refocus) root.current?.querySelector("button")?.focus();
  };

  useLayoutEffect(() => {
    if (!open || !list.current || !root.current) return;
    place(list.current, root.current.getBoundingClientRect());
    list.current.querySelector("button")?.focus();
  }, [open]);

  useEffect(() => {
    if (!open) return undefined;
    const outside = (event: Event): void => {
      if (!(event.target instanceof Node) || !root.current?.contains(event.target)) setOpen(false);
    };
    const gone = (): void => setOpen(false);
    document.addEventListener("pointerdown", outside, true);
    document.addEventListener("scroll", gone, true);
    window.addEventListener("resize", gone);
    return () => {
      document.removeEventListener("pointerdown", outside, true);
      document.removeEventListener("scroll", gone, true);
      window.removeEventListener("resize", gone);
    };
  }, [open]);

  const onKey = (event: KeyboardEvent): void => {
    if (!open) return;
    const buttons = [...(list.current?.querySelectorAll<HTMLButtonElement>("button:not(:disabled)") ?? [])];
    const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
    const goTo = (index: number): void => buttons[(index + buttons.length) % buttons.length]?.focus();
    if (event.key === "Escape") close(true);
    else if (event.key === "ArrowDown") goTo(at + 1);
    else if (event.key === "ArrowUp") goTo(at < 0 ? -1 : at - 1);
    else if (event.key === "Home") goTo(0);
    else if (event.key === "End") goTo(-1);
    else if (event.key === "Tab") {
      setOpen(false);
      return;
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };

  const trigger = {
    small,
    onClick: () => setOpen(!open),
    "aria-haspopup": "menu" as const,
    "aria-expanded": open,
    "aria-controls": open ? id : undefined,
  };
  return (
    <div className="menu" ref={root} onKeyDown={onKey}>
      {text ? <Button {...trigger}>{text}</Button> : <IconButton {...trigger} icon="more" label={label} />}
      {open && (
        <div className="menu__list" role="menu" id={id} aria-label={label} ref={list}>
          {items.map((item) => (
            <button
              key={item.label}
              type="button"
              role="menuitem"
              tabIndex={-1}
              disabled={item.disabled === true || refusalOf(item.needs) !== null}
              title={refusalOf(item.needs) ?? undefined}
              className={`menu__item ${item.danger ? "menu__item--danger" : ""}`}
              onClick={() => {
                close(true);
                item.onSelect();
              }}
            >
              {item.icon && <Icon name={item.icon} />}
              {item.label}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}

/** Below the button, its right edges aligned; above where there is no room below. */
function place(list: HTMLElement, anchor: DOMRect): void {
  const gap = 4;
  const box = list.getBoundingClientRect();
  const below = anchor.bottom + gap + box.height <= window.innerHeight;
  list.style.top = `${below ? anchor.bottom + gap : Math.max(gap, anchor.top - gap - box.height)}px`;
  list.style.left = `${Math.max(gap, Math.min(anchor.right - box.width, window.innerWidth - box.width - gap))}px`;
}
