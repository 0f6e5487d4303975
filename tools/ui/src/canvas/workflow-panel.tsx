// What is to be said of the whole: problems, the latest run, and what it brought here.

import type { JSX } from "react";
import { useState } from "react";
import { isOver } from "../graph/run";
import {
  Button,
  ConfirmDialog,
  Cut,
  Empty,
  ErrorBox,
  Guarded,
  IconButton,
  Loading,
  StateBadge,
  Time,
  format,
  useToasts,
} from "../parts";
import { useClient } from "../rpc";
import type { Execution, ResultFile } from "../rpc";
import { downloadResult } from "../views/files";
import { PreviewDialog } from "../views/preview_dialog";
import { useResults } from "../views/results";
import { RetryDialog } from "../views/retry_dialog";
import { useCanvas, useDesign, useRunState } from "./context";
import { DraftInput } from "./drafts";
import { FindingsList } from "./findings";
import { PanelHeader } from "./panel-header";

export function WorkflowPanel({
  onClose,
  onClearFindings,
  onRun,
}: {
  onClose: () => void;
  onClearFindings: () => void;
  onRun: () => void;
}): JSX.Element {
  const { design } = useCanvas();
  const toasts = useToasts();
  const { workflow } = useDesign();
  const { loading, run, execution, error } = useRunState();
  return (
    <>
      <PanelHeader title="Workflow" onClose={onClose} />
      <div className="panel__body">
        <FindingsList onClear={onClearFindings} />
        <ErrorBox error={error} />
        {run && execution ? (
          <>
            <RunSection execution={execution} />
            <ResultsSection executionId={run.execution_id} over={isOver(run.status)} />
          </>
        ) : loading ? (
          <Loading what="Looking for the latest run" />
        ) : error ? null : (
          <Empty
            icon="play"
            title="Not executed yet"
            actions={
              <Button icon="play" needs="operate" onClick={onRun}>
                Execute…
              </Button>
            }
          >
            States, logs and results appear here and on the canvas once it runs.
          </Empty>
        )}
        <details className="more">
          <summary>Description</summary>
          <Guarded needs="operate">
            <DraftInput
              label="What it is for"
              value={workflow?.description ?? ""}
              multiline
              maxLength={10_000}
              onKeep={(description) => void design.describe({ description }).catch(toasts.fail)}
            />
          </Guarded>
        </details>
      </div>
    </>
  );
}

function RunSection({ execution }: { execution: Execution }): JSX.Element {
  const { runs } = useCanvas();
  const { run, hidden } = useRunState();
  const [open, setOpen] = useState<"cancel" | "retry" | null>(null);
  const client = useClient();
  if (!run) return <Loading />;
  const over = isOver(run.status);
  const nodes = [...run.nodes.values()];
  const ended = nodes.filter(({ status }) => status === "COMPLETED" || status === "ERRORED" || status === "CANCELLED");
  const { progress } = execution;
  return (
    <section className="panel__section" aria-label="Latest run">
      <div className="row row--spread">
        <h3>
          <a href={`#/executions/${run.execution_id}`}>Execution {run.execution_id}</a>{" "}
          <StateBadge
            state={run.status}
            {...(run.cancelRequested ? { word: "Cancelling", tone: "stopped" as const } : {})}
          />
        </h3>
        <span className="muted small">
          <Time time={execution.started_at} />
        </span>
      </div>
      {run.error && (
        <div className="error-box" role="alert">
          <strong>{run.error}</strong>
          <span>Choose a failed node to read why.</span>
        </div>
      )}
      <div className="stack stack--tight">
        <progress className="bar" max={nodes.length || 1} value={ended.length} aria-label="Jobs ended" />
        <span className="muted small">
          {ended.length} of {format.count(nodes.length, "job")} ended
          {progress.bytes_total > 0 && `, ${format.bytes(progress.bytes_done)} of ${format.bytes(progress.bytes_total)} moved`}
        </span>
      </div>
      <div className="row">
        {!over && (
          <Button small icon="stop" needs="operate" disabled={run.cancelRequested} onClick={() => setOpen("cancel")}>
            Cancel run
          </Button>
        )}
        {over && run.status !== "COMPLETED" && (
          <Button small icon="retry" needs="operate" onClick={() => setOpen("retry")}>
            Retry
          </Button>
        )}
        <Button small onClick={() => runs.setHidden(!hidden)}>
          {hidden ? "Show on canvas" : "Hide on canvas"}
        </Button>
      </div>
      {open === "cancel" && (
        <ConfirmDialog
          title={`Cancel execution ${run.execution_id}?`}
          action="Cancel run"
          onConfirm={() => client.call("execution.cancel", { execution_id: run.execution_id })}
          onClose={() => setOpen(null)}
        >
          <p>Every peer is told, and what runs is stopped. A retry can take over what has completed.</p>
        </ConfirmDialog>
      )}
      {open === "retry" && (
        <RetryDialog
          executionId={run.execution_id}
          jobs={execution.jobs}
          onClose={() => setOpen(null)}
          onRetried={() => runs.follow()}
        />
      )}
    </section>
  );
}

const SHOWN_MAX = 100;

export function ResultsSection({ executionId, over }: { executionId: number; over: boolean }): JSX.Element {
  const client = useClient();
  const toasts = useToasts();
  const { execution } = useRunState();
  const [preview, setPreview] = useState<ResultFile | null>(null);
  const results = useResults(executionId);
  const files = results.value?.files ?? [];
  // As it was called when it ran, whatever is drawn now.
  const nameOf = (nodeId: number): string =>
    execution?.jobs.find(({ node_id }) => node_id === nodeId)?.job_name ?? `node ${nodeId}`;
  return (
    <section className="panel__section" aria-label="Results">
      <h3>Results{files.length > 0 && ` (${files.length})`}</h3>
      <ErrorBox error={results.error} onRetry={results.reload} />
      {results.loading && <Loading what="Reading the results" />}
      {!results.loading && !results.error && files.length === 0 && (
        <p className="muted">
          {over ? "No file reached this peer." : "No file has reached this peer yet."} Results are what wires bring to
          the card of this peer.
        </p>
      )}
      <ul className="results">
        {files.slice(0, SHOWN_MAX).map((file) => (
          <li key={file.id} className="result">
            <span className="result__name">
              <Cut text={file.path} />
              <span className="muted small cut" title={file.sha256}>
                {format.bytes(file.size_bytes)} from {nameOf(file.node_id)}
              </span>
            </span>
            <IconButton small icon="eye" label={`Preview ${file.path}`} onClick={() => setPreview(file)} />
            <IconButton
              small
              icon="download"
              label={`Download ${file.path}`}
              onClick={() => void downloadResult(client, executionId, file).catch(toasts.fail)}
            />
          </li>
        ))}
      </ul>
      {files.length > SHOWN_MAX && (
        <a href={`#/executions/${executionId}`}>All {format.count(files.length, "file")}</a>
      )}
      {preview && <PreviewDialog executionId={executionId} file={preview} onClose={() => setPreview(null)} />}
    </section>
  );
}
