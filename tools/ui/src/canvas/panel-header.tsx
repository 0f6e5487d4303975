import type { JSX, ReactNode } from "react";
import { IconButton } from "../parts";

export function PanelHeader({
  title,
  onClose,
  children,
}: {
  title: string;
  onClose: () => void;
  children?: ReactNode;
}): JSX.Element {
  return (
    <header className="panel__header">
      <div className="panel__titles">
        <h2 className="cut" title={title}>
          {title}
        </h2>
        {children && <div className="panel__about">{children}</div>}
      </div>
      <IconButton small icon="close" label="Close the panel" onClick={onClose} />
    </header>
  );
}
