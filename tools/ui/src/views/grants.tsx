import type { JSX } from "react";
import { useState } from "react";
import { Button, Card, Checkbox, Dialog, Empty, ErrorBox, Field, FieldGroup, IconButton, Loading, PeerName, Select, Table, TextInput, format, useAction, useDirectory, useToasts } from "../parts";
import type { Column } from "../parts";
import { readAll, useClient, useLive } from "../rpc";
import type { Grant, Service, Verb } from "../rpc";
import { parseSize } from "./service_form";

const EVERY_PEER = "*";
const VERBS: { verb: Verb; label: string; hint: string }[] = [
  { verb: "discover", label: "discover", hint: "find it in a search" },
  { verb: "order", label: "order", hint: "have jobs of it run, or jobs read it" },
  { verb: "fetch", label: "fetch", hint: "have its DATA sent to the ordering peer" },
];

/** Who may do what with services whose access is "granted", and limits for others. */
export function GrantsCard(): JSX.Element {
  const client = useClient();
  const toasts = useToasts();
  const [adding, setAdding] = useState(false);
  const grants = useLive((c) => readAll<Grant>(c, "grant.list"), ["peer.updated", "service.updated"], [], { gatherMs: 300 });
  const services = useLive((c) => readAll<Service>(c, "service.list"), ["service.updated"], [], { gatherMs: 300 });
  const names = new Map((services.value ?? []).map(({ id, name }) => [id, name]));
  const remove = async (grant: Grant): Promise<void> => {
    try {
      await client.call("grant.remove", { grant_id: grant.grant_id });
      toasts.say("The grant is gone");
      grants.reload();
    } catch (fault) {
      toasts.fail(fault);
    }
  };
  const columns: Column<Grant>[] = [
    {
      name: "Peer",
      head: true,
      className: "cell--cut",
      cell: (row) => (row.peer_id === EVERY_PEER ? "every allowed peer" : <PeerName peerId={row.peer_id} />),
    },
    {
      name: "Service",
      className: "cell--wide",
      cell: (row) => <span className="cut">{row.service_id === null ? "all services" : (names.get(row.service_id) ?? `service ${row.service_id}`)}</span>,
    },
    { name: "May", className: "nowrap", cell: (row) => row.verbs.join(", ") },
    { name: "Limits", className: "nowrap", cell: (row) => <span className="muted">{limitsText(row.limits)}</span> },
    {
      name: "Actions",
      hideName: true,
      className: "cell--actions",
      cell: (row) => <IconButton small icon="trash" needs="admin" label="Remove this grant" onClick={() => void remove(row)} />,
    },
  ];
  return (
    <Card
      title="Grants"
      actions={
        <Button small icon="add" needs="admin" onClick={() => setAdding(true)}>
          Add a grant
        </Button>
      }
    >
      <ErrorBox error={grants.error} onRetry={grants.reload} />
      {grants.loading ? (
        <Loading />
      ) : grants.value?.length ? (
        <Table caption="Grants" columns={columns} rows={grants.value} keyOf={(row) => row.grant_id} />
      ) : (
        <Empty title="No grant">
          Allowed peers may use every active service. A service whose access is “only peers with a grant” needs one here.
        </Empty>
      )}
      {adding && (
        <AddDialog
          services={services.value ?? []}
          onClose={() => setAdding(false)}
          onAdded={() => {
            setAdding(false);
            grants.reload();
          }}
        />
      )}
    </Card>
  );
}

function limitsText(limits: Record<string, unknown>): string {
  const told: string[] = [];
  if (typeof limits.concurrent_jobs === "number") told.push(format.count(limits.concurrent_jobs, "job at once", "jobs at once"));
  if (typeof limits.max_runtime_s === "number") told.push(`${format.duration(limits.max_runtime_s)} a job`);
  if (typeof limits.max_bytes === "number") told.push(format.bytes(limits.max_bytes));
  return told.join(", ") || "none";
}

function AddDialog({ services, onClose, onAdded }: { services: readonly Service[]; onClose: () => void; onAdded: () => void }): JSX.Element {
  const client = useClient();
  const { peers } = useDirectory();
  const [peerId, setPeerId] = useState(peers[0]?.peer_id ?? EVERY_PEER);
  const [serviceId, setServiceId] = useState("");
  const [verbs, setVerbs] = useState<Verb[]>(["discover", "order"]);
  const [jobs, setJobs] = useState("");
  const [runtime, setRuntime] = useState("");
  const [size, setSize] = useState("");
  const action = useAction(async () => {
    const limits = {
      ...(jobs.trim() ? { concurrent_jobs: Number(jobs) } : {}),
      ...(runtime.trim() ? { max_runtime_s: Number(runtime) } : {}),
      ...(size.trim() ? { max_bytes: parseSize(size) ?? size } : {}),
    };
    await client.call("grant.add", {
      peer_id: peerId,
      verbs,
      ...(serviceId ? { service_id: Number(serviceId) } : {}),
      ...(Object.keys(limits).length ? { limits } : {}),
    });
    onAdded();
  });
  return (
    <Dialog
      title="Add a grant"
      onClose={onClose}
      onSubmit={() => void action.run()}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={action.busy} disabled={!verbs.length}>
            Add grant
          </Button>
        </>
      }
    >
      <div className="form-grid">
        <Field label="Peer">
          <Select
            value={peerId}
            onChange={(event) => setPeerId(event.target.value)}
            choices={[
              ...peers.map((peer) => ({ value: peer.peer_id, label: peer.name || format.shortId(peer.peer_id) })),
              { value: EVERY_PEER, label: "Every allowed peer" },
            ]}
          />
        </Field>
        <Field label="Service">
          <Select
            value={serviceId}
            onChange={(event) => setServiceId(event.target.value)}
            choices={[{ value: "", label: "All services" }, ...services.map(({ id, name }) => ({ value: String(id), label: name }))]}
          />
        </Field>
      </div>
      <FieldGroup label="May">
        {VERBS.map(({ verb, label, hint }) => (
          <Checkbox
            key={verb}
            label={label}
            hint={hint}
            checked={verbs.includes(verb)}
            onChange={(event) => setVerbs(event.target.checked ? [...verbs, verb] : verbs.filter((each) => each !== verb))}
          />
        ))}
      </FieldGroup>
      <div className="form-grid">
        <Field label="Jobs at once" optional>
          <TextInput inputMode="numeric" value={jobs} onChange={(event) => setJobs(event.target.value)} />
        </Field>
        <Field label="Seconds a job" optional>
          <TextInput inputMode="decimal" value={runtime} onChange={(event) => setRuntime(event.target.value)} />
        </Field>
        <Field label="Bytes" optional>
          <TextInput placeholder="1 GB" value={size} onChange={(event) => setSize(event.target.value)} />
        </Field>
      </div>
      {action.error && <ErrorBox error={action.error} />}
    </Dialog>
  );
}
