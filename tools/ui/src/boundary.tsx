// Where the page goes on when drawing it has failed: it says so instead of turning white.

import { Component } from "react";
import type { ReactNode } from "react";
import { Button, Empty } from "./parts";

export class Boundary extends Component<{ children: ReactNode }, { error: unknown }> {
  override state = { error: null as unknown };

  static getDerivedStateFromError(error: unknown): { error: unknown } {
    return { error };
  }

  override render(): ReactNode {
    const { error } = this.state;
    if (error === null) return this.props.children;
    return (
      <main className="page">
        <Empty
          heading
          icon="warn"
          title="The designer has failed"
          actions={
            <Button kind="primary" onClick={() => location.reload()}>
              Reload
            </Button>
          }
        >
          {String(error)}. What the daemon holds is untouched.
        </Empty>
      </main>
    );
  }
}
