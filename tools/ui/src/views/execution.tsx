import type { JSX } from "react";
import { useMemo, useState } from "react";
import {
  Button,
  Card,
  Cut,
  Dialog,
  Empty,
  ErrorBox,
  Field,
  KindLabel,
  Loading,
  PageHeader,
  PeerName,
  StateBadge,
  Table,
  TextInput,
  Time,
  format,
  isTerminal,
  useAction,
  useDirectory,
  useToasts,
} from "../parts";
import type { Column } from "../parts";
import { readRan } from "../graph/ran";
import { readAll, useClient, useLive } from "../rpc";
import type {
  DaemonEvent,
  Execution,
  Job,
  ResultFile,
  Transfer,
  Workflow,
} from "../rpc";
import { Took } from "./executions";
import { downloadResult } from "./files";
import { ExplainDialog, LogsDialog } from "./job_dialogs";
import { usePaged } from "./paged";
import { PreviewDialog } from "./preview_dialog";
import { useResults } from "./results";
import { RetryDialog } from "./retry_dialog";
import { spansOf } from "./spans";
import type { JobRow } from "./spans";
import { TimelineView } from "./timeline";

type Open =
  | { dialog: "cancel" | "retry" }
  | { dialog: "logs" | "explain"; job: JobRow }
  | { dialog: "preview"; file: ResultFile }
  | null;

export function ExecutionPage({ executionId }: { executionId: number }): JSX.Element {
  const [open, setOpen] = useState<Open>(null);
  const mine = { concerns: (event: DaemonEvent) => event.data.execution_id === executionId, gatherMs: 200 };
  const mineSlowly = { ...mine, gatherMs: 500 };
  const execution = useLive(
    (c) => c.call<Execution>("execution.get", { execution_id: executionId }),
    ["execution.updated", "job.updated", "transfer.progress"],
    [executionId],
    mine,
  );
  const runs = useLive(
    (c) => readAll<Job>(c, "job.list", { execution_id: executionId }),
    ["job.updated", "execution.updated"],
    [executionId],
    mine,
  );
  const transfers = useLive(
    (c) => readAll<Transfer>(c, "transfer.list", { execution_id: executionId }),
    ["transfer.progress", "job.updated", "execution.updated"],
    [executionId],
    mineSlowly,
  );
  const workflowId = execution.value?.workflow_id ?? null;
  const workflow = useLive(
    async (c) => (workflowId === null ? null : c.call<Workflow>("workflow.get", { workflow_id: workflowId })),
    [],
    [workflowId],
  );
  // As it ran: the drawing may be another one by now.
  const frozen = useLive((c) => c.call<Execution>("execution.get", { execution_id: executionId, with_definition: true }), [], [executionId]);
  const definition = frozen.value?.definition;
  const wires = useMemo(() => definition && readRan(definition).wires, [definition]);

  const value = execution.value;
  const jobs = useMemo<JobRow[]>(() => {
    const byNode = new Map((runs.value ?? []).map((job) => [job.node_id, job]));
    return (value?.jobs ?? []).map((job) => ({ ...job, run: byNode.get(job.node_id) }));
  }, [value?.jobs, runs.value]);
  const { nameOf } = useDirectory();
  const spans = useMemo(
    () => spansOf(jobs, transfers.value ?? [], wires, nameOf),
    [jobs, transfers.value, wires, nameOf],
  );

  if (execution.loading) return <Loading what={`Reading execution ${executionId}`} />;
  if (!value) {
    return (
      <div className="page">
        <PageHeader title={`Execution #${executionId}`} crumb={{ href: "#/executions", label: "Executions" }} />
        <ErrorBox error={execution.error} onRetry={execution.reload} />
      </div>
    );
  }
  const over = isTerminal(value.status);
  const name = workflow.value?.name;
  return (
    <div className="page">
      <PageHeader
        crumb={{ href: "#/executions", label: "Executions" }}
        title={
          <>
            <span className="nowrap">Execution #{executionId}</span>
            <StateBadge state={value.status} />
          </>
        }
        about={
          <span className="row">
            {workflowId === null ? (
              "Its workflow has been deleted"
            ) : (
              <a href={`#/workflows/${workflowId}`} className="cut page__name" title={name}>
                {name ?? `Workflow ${workflowId}`}
              </a>
            )}
            <span>
              started <Time time={value.started_at} />, {over ? "took" : "for"}{" "}
              <Took from={value.started_at} to={value.completed_at} />
            </span>
          </span>
        }
        actions={
          <>
            {over && value.status !== "COMPLETED" && (
              <Button icon="retry" kind="primary" needs="operate" onClick={() => setOpen({ dialog: "retry" })}>
                Retry
              </Button>
            )}
            {!over && (
              <Button icon="stop" needs="operate" onClick={() => setOpen({ dialog: "cancel" })}>
                Cancel
              </Button>
            )}
          </>
        }
      />
      <ErrorBox error={execution.error} onRetry={execution.reload} />
      {value.error && value.status === "CANCELLED" && <div className="note">{value.error}</div>}
      {value.error && value.status !== "CANCELLED" && (
        <div className="error-box" role="alert">
          <strong>{value.error}</strong>
          <span>Look at the jobs below: Explain says why one did not end well, Retry runs what did not complete.</span>
        </div>
      )}
      <ProgressCard execution={value} />
      <ImageNews executionId={executionId} over={over} />
      <JobsCard jobs={jobs} loading={runs.loading} onLogs={(job) => setOpen({ dialog: "logs", job })} onExplain={(job) => setOpen({ dialog: "explain", job })} />
      <ResultsCard executionId={executionId} over={over} jobs={jobs} onPreview={(file) => setOpen({ dialog: "preview", file })} />
      <Card title="Timeline">
        <div className="card__body">
          {spans.length ? (
            <TimelineView spans={spans} begun={value.started_at} ended={value.completed_at} />
          ) : (
            <Empty title="Nothing has begun">Jobs and transfers appear here as they start.</Empty>
          )}
        </div>
      </Card>
      {open?.dialog === "cancel" && <CancelDialog executionId={executionId} onClose={() => setOpen(null)} />}
      {open?.dialog === "retry" && (
        <RetryDialog
          executionId={executionId}
          jobs={jobs}
          onClose={() => setOpen(null)}
          onRetried={(id) => {
            location.hash = `#/executions/${id}`;
          }}
        />
      )}
      {open?.dialog === "logs" && (
        <LogsDialog executionId={executionId} nodeId={open.job.node_id} name={open.job.job_name} onClose={() => setOpen(null)} />
      )}
      {open?.dialog === "explain" && (
        <ExplainDialog executionId={executionId} nodeId={open.job.node_id} name={open.job.job_name} onClose={() => setOpen(null)} />
      )}
      {open?.dialog === "preview" && (
        <PreviewDialog executionId={executionId} file={open.file} onClose={() => setOpen(null)} />
      )}
    </div>
  );
}

function ProgressCard({ execution }: { execution: Execution }): JSX.Element {
  const { progress } = execution;
  return (
    <section className="card stats" aria-label="Progress">
      <Stat name="Jobs ended" value={`${progress.jobs_terminal} of ${progress.jobs_total}`}>
        <progress className="bar" max={progress.jobs_total || 1} value={progress.jobs_terminal} aria-label="Jobs ended" />
      </Stat>
      <Stat
        name="Moved"
        value={progress.bytes_total ? `${format.bytes(progress.bytes_done)} of ${format.bytes(progress.bytes_total)}` : isTerminal(execution.status) ? "nothing" : "nothing yet"}
      >
        <progress className="bar" max={progress.bytes_total || 1} value={progress.bytes_done} aria-label="Bytes moved" />
      </Stat>
      <Stat name="Transfers under way" value={String(progress.transfers_active)} />
      <Stat
        name="Rate"
        value={progress.transfers_active ? format.rate(progress.rate_bytes_s) : "–"}
        about={progress.left_s ? `about ${format.duration(progress.left_s)} left` : ""}
      />
    </section>
  );
}

function Stat({ name, value, about = "", children }: { name: string; value: string; about?: string; children?: JSX.Element }): JSX.Element {
  return (
    <div className="stat">
      <span className="muted small">{name}</span>
      <strong>{value}</strong>
      {children}
      {about && <span className="muted small">{about}</span>}
    </div>
  );
}

/** How far the images are that executors fetch before they can run. */
function ImageNews({ executionId, over }: { executionId: number; over: boolean }): JSX.Element | null {
  const [last, setLast] = useState<Record<string, unknown> | null>(null);
  useLive(async () => null, ["image.progress"], [executionId], {
    concerns: (event) => {
      if (event.data.execution_id === executionId) setLast(event.data);
      return false;
    },
  });
  if (over || !last) return null;
  const done = Number(last.bytes_done) || 0;
  const total = Number(last.bytes_total) || 0;
  return (
    <div className="note" role="status">
      Image {String(last.image)}: {String(last.status)}
      {total > 0 && `, ${format.bytes(done)} of ${format.bytes(total)}`}
    </div>
  );
}

function JobsCard({
  jobs,
  loading,
  onLogs,
  onExplain,
}: {
  jobs: readonly JobRow[];
  loading: boolean;
  onLogs: (job: JobRow) => void;
  onExplain: (job: JobRow) => void;
}): JSX.Element {
  const { rows, pager } = usePaged(jobs);
  const columns: Column<JobRow>[] = [
    {
      name: "Job",
      head: true,
      className: "cell--wide",
      cell: (row) => (
        <>
          <Cut text={row.job_name} />
          {row.error ? (
            <Cut text={row.error} className={`small description ${row.status === "CANCELLED" ? "muted" : "failed-text"}`} />
          ) : (
            row.run?.remark && <Cut text={row.run.remark} className="small muted description" />
          )}
        </>
      ),
    },
    { name: "State", className: "nowrap", cell: (row) => <StateBadge state={row.status} /> },
    { name: "Type", cell: (row) => <KindLabel kind={row.service_type} /> },
    { name: "Runs on", className: "cell--cut", cell: (row) => <PeerName peerId={row.executor_peer_id} /> },
    { name: "Took", className: "cell--number", cell: (row) => <Took from={row.run?.started_at ?? null} to={row.run?.ended_at ?? null} /> },
    {
      name: "Exit",
      className: "cell--number",
      cell: (row) => (row.run?.exit_code === null || row.run?.exit_code === undefined ? <span className="muted">–</span> : row.run.exit_code),
    },
    {
      name: "Actions",
      hideName: true,
      className: "cell--actions",
      cell: (row) => (
        <span className="row row--end">
          <Button small onClick={() => onExplain(row)} aria-label={`Explain ${row.job_name}`}>
            Explain
          </Button>
          {row.service_type !== "DATA" && (
            <Button small onClick={() => onLogs(row)} aria-label={`Logs of ${row.job_name}`}>
              Logs
            </Button>
          )}
        </span>
      ),
    },
  ];
  return (
    <Card title="Jobs">
      {jobs.length ? (
        <Table caption="Jobs" columns={columns} rows={rows} keyOf={(row) => row.id} />
      ) : loading ? (
        <Loading />
      ) : (
        <Empty title="No job has been created yet">Phase 1 asks every executor to create its jobs; they appear here then.</Empty>
      )}
      {pager}
    </Card>
  );
}

function ResultsCard({
  executionId,
  over,
  jobs,
  onPreview,
}: {
  executionId: number;
  over: boolean;
  jobs: readonly JobRow[];
  onPreview: (file: ResultFile) => void;
}): JSX.Element {
  const client = useClient();
  const toasts = useToasts();
  const results = useResults(executionId);
  const { files, outstanding } = results.value ?? { files: [], outstanding: [] };
  const { rows, pager } = usePaged(files);
  const names = new Map(jobs.map((job) => [job.node_id, job.job_name]));
  const columns: Column<ResultFile>[] = [
    {
      name: "File",
      head: true,
      className: "cell--wide",
      cell: (row) => (
        <>
          <Cut text={row.path} />
          <Cut text={`from ${names.get(row.node_id) ?? `node ${row.node_id}`}`} className="small muted description" />
        </>
      ),
    },
    { name: "Size", className: "cell--number", cell: (row) => <span title={`${row.size_bytes} bytes`}>{format.bytes(row.size_bytes)}</span> },
    {
      name: "SHA-256",
      className: "nowrap",
      cell: (row) => (
        <code className="muted" title={row.sha256}>
          {row.sha256.slice(0, 12)}…
        </code>
      ),
    },
    {
      name: "Actions",
      hideName: true,
      className: "cell--actions",
      cell: (row) => (
        <span className="row row--end">
          <Button small icon="eye" onClick={() => onPreview(row)} aria-label={`Preview ${row.path}`}>
            Preview
          </Button>
          <Button
            small
            icon="download"
            aria-label={`Download ${row.path}`}
            onClick={() => downloadResult(client, executionId, row).catch((fault: unknown) => toasts.fail(fault))}
          >
            Download
          </Button>
        </span>
      ),
    },
  ];
  const count = files.length;
  return (
    <Card title={count ? `Results (${count})` : "Results"}>
      {results.error && (
        <div className="card__body">
          <ErrorBox error={results.error} onRetry={results.reload} />
        </div>
      )}
      {results.loading ? (
        <Loading what="Reading the results" />
      ) : count ? (
        <>
          <Table caption="Results" columns={columns} rows={rows} keyOf={(row) => row.id} />
          {pager}
        </>
      ) : (
        !results.error && (
          <Empty icon="download" title={over ? "No file reached this peer" : "No file has reached this peer yet"}>
            Results are what connections bring to the self-peer card of the drawing.
          </Empty>
        )
      )}
      {outstanding.length > 0 && (
        <div className="card__body">
          <div className={over ? "note note--warn" : "note"}>
            {format.count(outstanding.length, "delivery has", "deliveries have")} not arrived:{" "}
            {[...new Set(outstanding.map((row) => names.get(Number(row.node_id)) ?? `node ${String(row.node_id)}`))].slice(0, 5).join(", ")}
            {outstanding.flatMap((row) => (typeof row.error === "string" && row.error ? [`. ${row.error}`] : []))[0] ?? "."}
          </div>
        </div>
      )}
    </Card>
  );
}

function CancelDialog({ executionId, onClose }: { executionId: number; onClose: () => void }): JSX.Element {
  const client = useClient();
  const toasts = useToasts();
  const [reason, setReason] = useState("");
  const action = useAction(async () => {
    await client.call("execution.cancel", { execution_id: executionId, ...(reason.trim() ? { reason: reason.trim() } : {}) });
    toasts.say(`Execution #${executionId} is being cancelled`);
    onClose();
  });
  return (
    <Dialog
      title={`Cancel execution #${executionId}?`}
      onClose={onClose}
      onSubmit={() => void action.run()}
      footer={
        <>
          <Button onClick={onClose}>Let it run</Button>
          <Button type="submit" kind="danger" busy={action.busy}>
            Cancel execution
          </Button>
        </>
      }
    >
      <p>Every peer is told, and what runs is stopped. What has arrived stays; a retry can take it over.</p>
      <Field label="Reason" optional hint="Kept with the execution and told to the peers.">
        <TextInput value={reason} maxLength={200} onChange={(event) => setReason(event.target.value)} />
      </Field>
      {action.error && <ErrorBox error={action.error} />}
    </Dialog>
  );
}
