import type { JSX } from "react";
import { useEffect, useState } from "react";
import { Card, Cut, Empty, ErrorBox, Field, Loading, PageHeader, Select, StateBadge, Table, Time, format, stateWord, useNow } from "../parts";
import type { Column } from "../parts";
import { readAll, useLive } from "../rpc";
import type { ExecutionSummary, Page, WorkflowSummary } from "../rpc";
import { executionsHash } from "../routes";
import { Pager } from "./paged";

const PAGE_ROWS = 50;
const STATES = ["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"];

export function ExecutionsPage({ workflowId, status }: { workflowId: number | null; status: string | null }): JSX.Element {
  const wanted = status && STATES.includes(status) ? status : null;
  // The ids after which the pages begin that were turned so far; the last one is shown.
  const [starts, setStarts] = useState<number[]>([]);
  useEffect(() => setStarts([]), [workflowId, wanted]);
  const after = starts.at(-1);
  const workflows = useLive((c) => readAll<WorkflowSummary>(c, "workflow.list"), ["workflow.updated"], [], {
    concerns: (event) => event.data.change !== "ui_state",
    gatherMs: 500,
  });
  const page = useLive(
    (c) =>
      c.call<Page<ExecutionSummary>>("execution.list", {
        newest_first: true,
        limit: PAGE_ROWS,
        ...(workflowId === null ? {} : { workflow_id: workflowId }),
        ...(wanted === null ? {} : { status: wanted }),
        ...(after === undefined ? {} : { after_id: after }),
      }),
    ["execution.updated", "job.updated"],
    [workflowId, wanted, after],
    { gatherMs: 300, keep: true },
  );
  const filter = (workflow: number | null, state: string | null): void => {
    location.hash = executionsHash(workflow, state);
  };
  const known = workflows.value ?? [];
  const choices = [
    { value: "", label: "All workflows" },
    ...known.map(({ id, name }) => ({ value: String(id), label: name })),
    ...(workflowId !== null && !known.some(({ id }) => id === workflowId)
      ? [{ value: String(workflowId), label: `Workflow ${workflowId}` }]
      : []),
  ];
  const items = page.value?.items ?? [];
  const next = page.value?.next_after_id ?? null;
  const first = starts.length * PAGE_ROWS;
  return (
    <div className="page">
      <PageHeader title="Executions" about="Every run of a workflow that this peer ordered, newest first." />
      <ErrorBox error={page.error} onRetry={page.reload} />
      <Card>
        <div className="filters">
          <Field label="Workflow">
            <Select
              className="filters__select"
              choices={choices}
              value={workflowId === null ? "" : String(workflowId)}
              onChange={(event) => filter(event.target.value ? Number(event.target.value) : null, wanted)}
            />
          </Field>
          <Field label="State">
            <Select
              className="filters__select"
              choices={[{ value: "", label: "Any state" }, ...STATES.map((value) => ({ value, label: stateWord(value) }))]}
              value={wanted ?? ""}
              onChange={(event) => filter(workflowId, event.target.value || null)}
            />
          </Field>
        </div>
        {page.loading ? (
          <Loading what="Reading the executions" />
        ) : items.length ? (
          <Table caption="Executions" columns={COLUMNS} rows={items} keyOf={(row) => row.id} />
        ) : workflowId !== null || wanted !== null ? (
          <Empty
            icon="list"
            title="No such execution"
            actions={
              <a className="button" href="#/executions">
                Show all
              </a>
            }
          >
            No execution is of this workflow and in this state.
          </Empty>
        ) : (
          <Empty
            icon="list"
            title="Nothing has been executed yet"
            actions={
              <a className="button" href="#/workflows">
                Go to the workflows
              </a>
            }
          >
            Open a workflow and choose Execute: its run appears here and stays, with its jobs, logs and results.
          </Empty>
        )}
        {(starts.length > 0 || next !== null) && (
          <Pager
            text={`${first + 1} to ${first + items.length} of ${page.value?.total ?? "…"}`}
            back="Newer"
            next="Older"
            onBack={starts.length ? () => setStarts(starts.slice(0, -1)) : null}
            onNext={next === null ? null : () => setStarts([...starts, next])}
          />
        )}
      </Card>
    </div>
  );
}

const COLUMNS: Column<ExecutionSummary>[] = [
  {
    name: "Execution",
    head: true,
    className: "nowrap",
    cell: (row) => (
      <a className="table__name" href={`#/executions/${row.id}`}>
        #{row.id}
      </a>
    ),
  },
  {
    name: "Workflow",
    className: "cell--wide",
    cell: (row) => (
      <>
        {row.workflow_id === null ? (
          <Cut text={row.workflow_name ? `${row.workflow_name} (deleted)` : "deleted workflow"} className="muted" />
        ) : (
          <a className="table__name cut" href={`#/workflows/${row.workflow_id}`} title={row.workflow_name}>
            {row.workflow_name}
          </a>
        )}
        {row.error && <Cut text={row.error} className={`small ${row.status === "CANCELLED" ? "muted" : "failed-text"}`} />}
      </>
    ),
  },
  { name: "State", className: "nowrap", cell: (row) => <StateBadge state={row.status} /> },
  {
    name: "Jobs",
    className: "cell--number",
    cell: (row) => (
      <span title={`${row.jobs_terminal} of ${format.count(row.jobs_total, "job")} ended`}>
        {row.jobs_terminal}/{row.jobs_total}
      </span>
    ),
  },
  { name: "Started", className: "nowrap", cell: (row) => <Time time={row.started_at} /> },
  { name: "Took", className: "cell--number", cell: (row) => <Took from={row.started_at} to={row.completed_at} /> },
];

/** How long it took, or has been going on. */
export function Took({ from, to }: { from: string | null; to: string | null }): JSX.Element {
  if (!from) return <span className="muted">–</span>;
  if (to) return <span>{format.duration(format.secondsBetween(from, to, 0))}</span>;
  return <Going from={from} />;
}

function Going({ from }: { from: string }): JSX.Element {
  const now = useNow(1000);
  return <span>{format.duration(Math.floor(format.secondsBetween(from, null, now) ?? 0))}</span>;
}
