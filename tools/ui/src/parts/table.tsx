import type { JSX, ReactNode } from "react";

export interface Column<T> {
  name: string;
  /** For columns whose head needs no words to the eye (actions). */
  hideName?: boolean;
  cell: (row: T) => ReactNode;
  className?: "cell--number" | "cell--actions" | "cell--wide" | "cell--cut" | "nowrap";
  /** The cell that names the row. */
  head?: boolean;
}

export function Table<T>({
  caption,
  columns,
  rows,
  keyOf,
}: {
  /** What the table lists; read out, not shown: the heading above it says the same to the eye. */
  caption: string;
  columns: readonly Column<T>[];
  rows: readonly T[];
  keyOf: (row: T) => string | number;
}): JSX.Element {
  return (
    <div className="table-scroll" role="region" aria-label={caption} tabIndex={0}>
      <table className="table">
        <caption className="hidden-visually">{caption}</caption>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column.name} scope="col" className={column.className}>
                {column.hideName ? <span className="hidden-visually">{column.name}</span> : column.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={keyOf(row)}>
              {columns.map((column) =>
                column.head ? (
                  <th key={column.name} scope="row" className={column.className}>
                    {column.cell(row)}
                  </th>
                ) : (
                  <td key={column.name} className={column.className}>
                    {column.cell(row)}
                  </td>
                ),
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
