import type { ChangeEvent, JSX } from "react";
import { useMemo, useRef, useState } from "react";
import {
  Button,
  Card,
  ConfirmDialog,
  Cut,
  Dialog,
  Empty,
  ErrorBox,
  Field,
  Icon,
  Loading,
  Menu,
  PageHeader,
  StateBadge,
  Table,
  TextArea,
  TextInput,
  Time,
  format,
  useAction,
  useToasts,
} from "../parts";
import type { Column } from "../parts";
import { RpcError, readAll, useClient, useLive } from "../rpc";
import type { Client, ExecutionSummary, Page, Workflow, WorkflowSummary } from "../rpc";
import { saveName } from "./file_names";
import { saveText } from "./files";
import { usePaged } from "./paged";

type Open =
  | { dialog: "create" }
  | { dialog: "rename" | "delete"; workflow: WorkflowSummary }
  | null;

const RECENT = 200;
const MAX_DOCUMENT_BYTES = 1_000_000;

export function WorkflowsPage(): JSX.Element {
  const client = useClient();
  const toasts = useToasts();
  const [open, setOpen] = useState<Open>(null);
  const [words, setWords] = useState("");
  const workflows = useLive((c) => readAll<WorkflowSummary>(c, "workflow.list"), ["workflow.updated"], [], {
    concerns: (event) => event.data.change !== "ui_state",
    gatherMs: 400,
  });
  const oldRuns = useRef(new Map<number, ExecutionSummary | null>());
  const runs = useLive(
    (c) => lastRuns(c, (workflows.value ?? []).map(({ id }) => id), oldRuns.current),
    ["execution.updated", "job.updated"],
    [workflows.value?.length],
    { gatherMs: 400 },
  );
  const found = useMemo(() => {
    const wanted = words.trim().toLowerCase();
    const all = [...(workflows.value ?? [])].sort((a, b) => b.updated_at.localeCompare(a.updated_at));
    return wanted ? all.filter((each) => `${each.name}\n${each.description}`.toLowerCase().includes(wanted)) : all;
  }, [workflows.value, words]);
  const { rows, pager } = usePaged(found);

  const copy = async (workflow: WorkflowSummary): Promise<void> => {
    try {
      const document = await client.call("workflow.export", { workflow_id: workflow.id });
      await client.call("workflow.import", { document, name: `${workflow.name} copy`.slice(0, 200) });
      toasts.say(`Copied ${workflow.name}`);
    } catch (fault) {
      toasts.fail(fault);
    }
  };
  const save = async (workflow: WorkflowSummary): Promise<void> => {
    try {
      const document = await client.call("workflow.export", { workflow_id: workflow.id });
      saveText(saveName(workflow.name, ".rnd.json"), `${JSON.stringify(document, null, 2)}\n`);
    } catch (fault) {
      toasts.fail(fault);
    }
  };

  const columns: Column<WorkflowSummary>[] = [
    {
      name: "Name",
      head: true,
      className: "cell--wide",
      cell: (row) => (
        <>
          <a className="table__name cut" href={`#/workflows/${row.id}`} title={row.name}>
            {row.name}
          </a>
          {row.description && <Cut text={row.description} className="muted small description" />}
        </>
      ),
    },
    {
      name: "Drawing",
      className: "nowrap",
      cell: (row) =>
        row.node_count ? (
          <span className="muted">
            {format.count(row.node_count, "node")}, {format.count(row.connection_count, "connection")}
          </span>
        ) : (
          <span className="muted">empty</span>
        ),
    },
    {
      name: "Last execution",
      className: "nowrap",
      cell: (row) => <LastRun run={runs.value?.get(row.id)} />,
    },
    { name: "Changed", className: "nowrap", cell: (row) => <Time time={row.updated_at} /> },
    {
      name: "Actions",
      hideName: true,
      className: "cell--actions",
      cell: (row) => (
        <Menu
          label={`Actions for ${row.name}`}
          items={[
            { label: "Rename…", icon: "edit", needs: "operate", onSelect: () => setOpen({ dialog: "rename", workflow: row }) },
            { label: "Copy", icon: "copy", needs: "operate", onSelect: () => void copy(row) },
            { label: "Export to a file", icon: "download", onSelect: () => void save(row) },
            {
              label: "Its executions",
              icon: "list",
              onSelect: () => (location.hash = `#/executions?workflow=${row.id}`),
            },
            { label: "Delete…", icon: "trash", danger: true, needs: "operate", onSelect: () => setOpen({ dialog: "delete", workflow: row }) },
          ]}
        />
      ),
    },
  ];

  const create = (
    <Button kind="primary" icon="add" needs="operate" onClick={() => setOpen({ dialog: "create" })}>
      New workflow
    </Button>
  );
  return (
    <div className="page">
      <PageHeader
        title="Workflows"
        about="What to run, where, and which data goes from one to the next."
        actions={
          <>
            <ImportButton />
            {create}
          </>
        }
      />
      <ErrorBox error={workflows.error} onRetry={workflows.reload} />
      <Card>
        {workflows.loading ? (
          <Loading what="Reading the workflows" />
        ) : (workflows.value?.length ?? 0) === 0 ? (
          <Empty icon="workflow" title="No workflow yet" actions={create}>
            A workflow is a drawing: put services on a canvas, connect them, and execute. Begin with an empty one, or import a
            file that somebody gave you.
          </Empty>
        ) : (
          <>
            {(workflows.value?.length ?? 0) > 5 && (
              <div className="filters">
                <TextInput
                  type="search"
                  className="filters__search"
                  placeholder="Find by name or description"
                  aria-label="Find workflows"
                  value={words}
                  onChange={(event) => setWords(event.target.value)}
                />
              </div>
            )}
            {rows.length ? (
              <Table caption="Workflows" columns={columns} rows={rows} keyOf={(row) => row.id} />
            ) : (
              <Empty title="No workflow is called so">Nothing has “{words}” in its name or description.</Empty>
            )}
            {pager}
          </>
        )}
      </Card>
      {open?.dialog === "create" && <WorkflowDialog onClose={() => setOpen(null)} />}
      {open?.dialog === "rename" && <WorkflowDialog workflow={open.workflow} onClose={() => setOpen(null)} />}
      {open?.dialog === "delete" && (
        <ConfirmDialog
          title={`Delete ${open.workflow.name}?`}
          action="Delete workflow"
          onClose={() => setOpen(null)}
          onConfirm={async () => {
            await client.call("workflow.delete", { workflow_id: open.workflow.id });
            toasts.say(`Deleted ${open.workflow.name}`);
          }}
        >
          <p>
            {open.workflow.node_count
              ? `Its drawing of ${format.count(open.workflow.node_count, "node")} and ${format.count(open.workflow.connection_count, "connection")} is gone for good. Export it first if you may want it back.`
              : "Its drawing is empty."}{" "}
            Services stay, and so do its executions and their results.
          </p>
        </ConfirmDialog>
      )}
    </div>
  );
}

function LastRun({ run }: { run: ExecutionSummary | null | undefined }): JSX.Element {
  if (!run) return <span className="muted">{run === null ? "never executed" : ""}</span>;
  return (
    <span className="row row--near">
      <StateBadge state={run.status} />
      <a href={`#/executions/${run.id}`} className="small">
        #{run.id}
      </a>
      <span className="muted small">
        <Time time={run.completed_at ?? run.started_at} />
      </span>
    </span>
  );
}

/** The newest execution of each workflow. One call tells most; older ones, which never change any more, are asked for once. */
async function lastRuns(
  client: Client,
  ids: number[],
  old: Map<number, ExecutionSummary | null>,
): Promise<Map<number, ExecutionSummary | null>> {
  const page = await client.call<Page<ExecutionSummary>>("execution.list", { newest_first: true, limit: RECENT });
  const last = new Map<number, ExecutionSummary | null>();
  for (const run of page.items) {
    if (run.workflow_id !== null && !last.has(run.workflow_id)) last.set(run.workflow_id, run);
  }
  const whole = page.next_after_id === null;
  for (const id of ids) {
    if (last.has(id)) continue;
    if (whole) last.set(id, null);
    else {
      if (!old.has(id)) {
        const one = await client.call<Page<ExecutionSummary>>("execution.list", {
          workflow_id: id,
          newest_first: true,
          limit: 1,
        });
        old.set(id, one.items[0] ?? null);
      }
      last.set(id, old.get(id) ?? null);
    }
  }
  return last;
}

function WorkflowDialog({ workflow, onClose }: { workflow?: WorkflowSummary; onClose: () => void }): JSX.Element {
  const client = useClient();
  const toasts = useToasts();
  const [name, setName] = useState(workflow?.name ?? "");
  const [description, setDescription] = useState(workflow?.description ?? "");
  const [missing, setMissing] = useState(false);
  const action = useAction(async () => {
    if (workflow) {
      await client.call("workflow.update", { workflow_id: workflow.id, name: name.trim(), description });
      toasts.say("Saved");
      onClose();
    } else {
      const made = await client.call<Workflow>("workflow.create", { name: name.trim(), description });
      onClose();
      location.hash = `#/workflows/${made.id}`;
    }
  });
  const submit = (): void => {
    setMissing(!name.trim());
    if (name.trim()) void action.run();
  };
  return (
    <Dialog
      title={workflow ? "Rename workflow" : "New workflow"}
      onClose={onClose}
      onSubmit={submit}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={action.busy}>
            {workflow ? "Save" : "Create and open"}
          </Button>
        </>
      }
    >
      <Field label="Name" error={missing ? "A workflow needs a name." : null}>
        <TextInput value={name} autoFocus maxLength={200} onChange={(event) => setName(event.target.value)} />
      </Field>
      <Field label="Description" optional>
        <TextArea value={description} onChange={(event) => setDescription(event.target.value)} />
      </Field>
      {action.error && <ErrorBox error={action.error} />}
    </Dialog>
  );
}

function ImportButton(): JSX.Element {
  const client = useClient();
  const input = useRef<HTMLInputElement>(null);
  const [error, setError] = useState<RpcError | null>(null);
  const action = useAction(async (file: File) => {
    const document = await readDocument(file);
    const made = await client.call<Workflow>("workflow.import", { document });
    location.hash = `#/workflows/${made.id}`;
  });
  const choose = (event: ChangeEvent<HTMLInputElement>): void => {
    const file = event.target.files?.[0];
    event.target.value = "";
    if (file) void action.run(file);
  };
  const shown = error ?? action.error;
  return (
    <>
      <input
        ref={input}
        type="file"
        accept=".json,application/json"
        hidden
        aria-label="Workflow file"
        data-testid="import-file"
        onChange={choose}
      />
      <Button icon="upload" needs="operate" busy={action.busy} onClick={() => input.current?.click()}>
        Import
      </Button>
      {shown && (
        <Dialog
          title="The file was not imported"
          onClose={() => {
            setError(null);
            action.clear();
          }}
        >
          <ErrorBox error={shown} />
          <p className="muted">
            <Icon name="help" /> A workflow file is JSON of the format rnd.workflow/1, as Export makes it.
          </p>
        </Dialog>
      )}
    </>
  );
}

async function readDocument(file: File): Promise<unknown> {
  if (file.size > MAX_DOCUMENT_BYTES) {
    throw new RpcError(0, `${file.name} has ${format.bytes(file.size)}, a workflow at most ${format.bytes(MAX_DOCUMENT_BYTES)}`);
  }
  try {
    return JSON.parse(await file.text());
  } catch (fault) {
    throw new RpcError(0, `${file.name} is not JSON`, { hint: fault instanceof Error ? fault.message : "" });
  }
}
