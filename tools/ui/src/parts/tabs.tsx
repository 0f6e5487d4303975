import type { JSX, KeyboardEvent, ReactNode } from "react";
import { useId, useState } from "react";

export interface Tab {
  id: string;
  label: ReactNode;
  content: () => ReactNode;
}

/** Several contents in one place; left and right arrows choose. */
export function Tabs({ label, tabs }: { label: string; tabs: readonly Tab[] }): JSX.Element {
  const [chosen, setChosen] = useState(tabs[0]?.id ?? "");
  const id = useId();
  const tab = tabs.find((each) => each.id === chosen) ?? tabs[0];
  const onKey = (event: KeyboardEvent): void => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!step) return;
    event.preventDefault();
    const at = tabs.findIndex((each) => each.id === tab?.id);
    const next = tabs[(at + step + tabs.length) % tabs.length];
    if (!next) return;
    setChosen(next.id);
    document.getElementById(`${id}-${next.id}`)?.focus();
  };
  return (
    <div className="stack">
      <div className="tabs" role="tablist" aria-label={label} onKeyDown={onKey}>
        {tabs.map((each) => (
          <button
            key={each.id}
            id={`${id}-${each.id}`}
            type="button"
            role="tab"
            className="tab"
            aria-selected={each.id === tab?.id}
            aria-controls={`${id}-panel`}
            tabIndex={each.id === tab?.id ? 0 : -1}
            onClick={() => setChosen(each.id)}
          >
            {each.label}
          </button>
        ))}
      </div>
      <div role="tabpanel" id={`${id}-panel`} aria-labelledby={`${id}-${tab?.id ?? ""}`} tabIndex={0}>
        {tab?.content()}
      </div>
    </div>
  );
}
