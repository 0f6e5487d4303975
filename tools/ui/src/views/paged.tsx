// Long lists a page at a time, with words to find a row by.

import type { JSX } from "react";
import { useState } from "react";
import { Button } from "../parts";

const PAGE_ROWS = 50;

export interface Paged<T> {
  rows: T[];
  pager: JSX.Element | null;
}

/** Cut what is there into pages. */
export function usePaged<T>(all: readonly T[]): Paged<T> {
  const [wanted, setWanted] = useState(0);
  const last = Math.max(0, Math.ceil(all.length / PAGE_ROWS) - 1);
  const page = Math.min(wanted, last);
  const from = page * PAGE_ROWS;
  const rows = all.slice(from, from + PAGE_ROWS);
  const pager =
    last === 0 ? null : (
      <Pager
        text={`${from + 1} to ${from + rows.length} of ${all.length}`}
        onBack={page > 0 ? () => setWanted(page - 1) : null}
        onNext={page < last ? () => setWanted(page + 1) : null}
      />
    );
  return { rows, pager };
}

export function Pager({
  text,
  onBack,
  onNext,
  back = "Previous",
  next = "Next",
}: {
  text: string;
  onBack: (() => void) | null;
  onNext: (() => void) | null;
  back?: string;
  next?: string;
}): JSX.Element {
  return (
    <nav className="pager" aria-label="Pages">
      <span>{text}</span>
      <span className="row">
        <Button small disabled={!onBack} onClick={onBack ?? undefined}>
          {back}
        </Button>
        <Button small disabled={!onNext} onClick={onNext ?? undefined}>
          {next}
        </Button>
      </span>
    </nav>
  );
}
