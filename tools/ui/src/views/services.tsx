import type { JSX, ReactNode } from "react";
import { useMemo, useState } from "react";
import {
  Button,
  Card,
  ConfirmDialog,
  Cut,
  Dialog,
  Empty,
  ErrorBox,
  Facts,
  Field,
  Icon,
  KindLabel,
  Loading,
  Menu,
  PageHeader,
  Select,
  StateBadge,
  Table,
  TextInput,
  Time,
  format,
  useAction,
  useToasts,
} from "../parts";
import type { Column } from "../parts";
import { readAll, useClient, useLive } from "../rpc";
import type { Client, Service, WorkflowNode, WorkflowSummary } from "../rpc";
import { usePaged } from "./paged";
import { ServiceDialog } from "./service_dialog";

type Open = { dialog: "create" } | { dialog: "show" | "change" | "unlock" | "delete"; service: Service } | null;

const LOOKED_AT = 100;

export function ServicesPage(): JSX.Element {
  const client = useClient();
  const toasts = useToasts();
  const [open, setOpen] = useState<Open>(null);
  const [words, setWords] = useState("");
  const [kind, setKind] = useState("");
  const services = useLive((c) => readAll<Service>(c, "service.list"), ["service.updated"], [], { gatherMs: 300 });
  const found = useMemo(() => {
    const wanted = words.trim().toLowerCase();
    return (services.value ?? [])
      .filter((each) => !kind || each.service_type === kind)
      .filter((each) => !wanted || `${each.name}\n${each.description}`.toLowerCase().includes(wanted))
      .sort((a, b) => a.name.localeCompare(b.name));
  }, [services.value, words, kind]);
  const { rows, pager } = usePaged(found);

  const switchTo = async (service: Service, status: "ACTIVE" | "INACTIVE"): Promise<void> => {
    try {
      await client.call("service.set_status", { service_id: service.id, status });
      toasts.say(status === "ACTIVE" ? `${service.name} takes orders` : `${service.name} takes no more orders`);
    } catch (fault) {
      toasts.fail(fault);
    }
  };

  const columns: Column<Service>[] = [
    {
      name: "Name",
      head: true,
      className: "cell--wide",
      cell: (row) => (
        <>
          <button type="button" className="link cut" title={row.name} onClick={() => setOpen({ dialog: "show", service: row })}>
            {row.name}
          </button>
          <Cut text={row.description || whatItIs(row)} className="muted small description" />
        </>
      ),
    },
    { name: "Type", cell: (row) => <KindLabel kind={row.service_type} /> },
    {
      name: "State",
      className: "nowrap",
      cell: (row) => <StateBadge state={row.status} tone={row.status === "ACTIVE" ? "done" : "idle"} />,
    },
    { name: "Access", className: "nowrap", cell: (row) => (row.access === "granted" ? "granted peers" : "allowed peers") },
    { name: "Price", className: "nowrap", cell: (row) => <span className={row.pricing_amount ? "" : "muted"}>{price(row)}</span> },
    { name: "Changed", className: "nowrap", cell: (row) => <Time time={row.updated_at} /> },
    {
      name: "Actions",
      hideName: true,
      className: "cell--actions",
      cell: (row) => (
        <Menu
          label={`Actions for ${row.name}`}
          items={[
            { label: "Details", icon: "eye", onSelect: () => setOpen({ dialog: "show", service: row }) },
            { label: "Change…", icon: "edit", needs: "admin", onSelect: () => setOpen({ dialog: "change", service: row }) },
            row.status === "ACTIVE"
              ? { label: "Deactivate", icon: "stop" as const, needs: "admin" as const, onSelect: () => void switchTo(row, "INACTIVE") }
              : { label: "Activate", icon: "play" as const, needs: "admin" as const, onSelect: () => void switchTo(row, "ACTIVE") },
            ...(row.encrypted
              ? [{ label: "Unlock…", icon: "unlock" as const, needs: "admin" as const, onSelect: () => setOpen({ dialog: "unlock", service: row }) }]
              : []),
            { label: "Delete…", icon: "trash", danger: true, needs: "admin", onSelect: () => setOpen({ dialog: "delete", service: row }) },
          ]}
        />
      ),
    },
  ];
  const create = (
    <Button kind="primary" icon="add" needs="admin" onClick={() => setOpen({ dialog: "create" })}>
      New service
    </Button>
  );
  const total = services.value?.length ?? 0;
  return (
    <div className="page">
      <PageHeader title="Services" about="What this peer offers: to its own workflows, and to the peers that it allows." actions={create} />
      <ErrorBox error={services.error} onRetry={services.reload} />
      <Card>
        {services.loading ? (
          <Loading what="Reading the services" />
        ) : total === 0 ? (
          <Empty icon="service" title="This peer offers nothing yet" actions={create}>
            A service is data that jobs read (DATA), a container (DOCKER) or a program of this machine (STANDALONE). Workflows are
            drawn from them.
          </Empty>
        ) : (
          <>
            <div className="filters">
              <Field label="Find">
                <TextInput type="search" className="filters__search" placeholder="Name or description" value={words} onChange={(event) => setWords(event.target.value)} />
              </Field>
              <Field label="Type">
                <Select
                  className="filters__select"
                  value={kind}
                  onChange={(event) => setKind(event.target.value)}
                  choices={[
                    { value: "", label: "Any type" },
                    ...["DATA", "DOCKER", "STANDALONE"].map((value) => ({ value, label: value })),
                  ]}
                />
              </Field>
            </div>
            {rows.length ? (
              <Table caption="Services" columns={columns} rows={rows} keyOf={(row) => row.id} />
            ) : (
              <Empty title="No such service">Other words or another type may find it.</Empty>
            )}
            {pager}
          </>
        )}
      </Card>
      {open?.dialog === "create" && <ServiceDialog onClose={() => setOpen(null)} />}
      {open?.dialog === "change" && <ServiceDialog service={open.service} onClose={() => setOpen(null)} />}
      {open?.dialog === "show" && (
        <DetailsDialog
          service={services.value?.find(({ id }) => id === open.service.id) ?? open.service}
          onChange={() => setOpen({ dialog: "change", service: open.service })}
          onClose={() => setOpen(null)}
        />
      )}
      {open?.dialog === "unlock" && <UnlockDialog service={open.service} onClose={() => setOpen(null)} />}
      {open?.dialog === "delete" && <DeleteDialog service={open.service} onClose={() => setOpen(null)} />}
    </div>
  );
}

export function price(service: { pricing_amount: number; pricing_type: string }): string {
  if (!service.pricing_amount) return "free";
  return `${service.pricing_amount} ${service.pricing_type.toLowerCase().replaceAll("_", " ")}`;
}

function whatItIs(service: Service): string {
  if (service.service_type === "DOCKER") return service.image ?? "";
  if (service.service_type === "STANDALONE") return [service.executable ?? "", ...(service.cmd ?? [])].join(" ");
  return filesText(service);
}

function filesText(service: Service): string {
  const files = typeof service.file_count === "number" ? format.count(service.file_count, "file") : "files";
  const size = typeof service.size_bytes === "number" ? `, ${format.bytes(service.size_bytes)}` : "";
  return `${files}${size}${service.encrypted ? ", encrypted" : ""}`;
}

function DetailsDialog({ service, onChange, onClose }: { service: Service; onChange: () => void; onClose: () => void }): JSX.Element {
  return (
    <Dialog
      wide
      title={<span title={service.name}>{service.name}</span>}
      onClose={onClose}
      footer={
        <>
          <Button onClick={onClose}>Close</Button>
          <Button icon="edit" needs="admin" onClick={onChange}>
            Change
          </Button>
        </>
      }
    >
      <div className="row">
        <KindLabel kind={service.service_type} />
        <StateBadge state={service.status} tone={service.status === "ACTIVE" ? "done" : "idle"} />
        {service.encrypted && (
          <span className="row small muted">
            <Icon name="lock" /> encrypted
          </span>
        )}
      </div>
      {service.warn && <div className="note note--warn">{service.warn}</div>}
      {service.description && <p>{service.description}</p>}
      <Facts facts={factsOf(service)} />
      <section className="stack stack--tight">
        <h3>Interfaces</h3>
        <ul className="stack stack--tight">
          {service.interfaces.map((face, index) => (
            <li key={index} className="row">
              <code>{face.interface_type}</code>
              {face.path && <code>{face.path}</code>}
              {face.mount_function && <span className="muted small">{face.mount_function}</span>}
              {face.required && <span className="muted small">required</span>}
              {face.description && <span className="muted small">{face.description}</span>}
            </li>
          ))}
        </ul>
      </section>
    </Dialog>
  );
}

const EGRESS: Record<string, string> = {
  any_job: "any job, on any peer",
  listed: "jobs on listed peers",
  here_only: "only jobs on this peer",
};

function factsOf(service: Service): (readonly [string, ReactNode])[] {
  const code = (text: string): JSX.Element => <code>{text}</code>;
  const words = (list: readonly string[] | null | undefined): ReactNode => (list?.length ? code(list.join(" ")) : "–");
  const limits = service.limits ?? {};
  const bounds = [
    limits.cpus && `${limits.cpus} CPUs`,
    limits.memory_bytes && `${format.bytes(limits.memory_bytes)} of memory`,
    limits.disk_bytes && `${format.bytes(limits.disk_bytes)} of disk`,
    limits.pids && `${limits.pids} processes`,
    limits.open_files && `${limits.open_files} open files`,
    limits.gpus && `${limits.gpus} GPUs`,
    service.timeout_s && format.duration(service.timeout_s),
  ].filter(Boolean);
  const facts: (readonly [string, ReactNode])[] = [
    ["Number", service.id],
    ["Access", service.access === "granted" ? "only peers with a grant" : "every allowed peer"],
    ["Price", price(service)],
  ];
  if (service.service_type === "DATA") {
    facts.push(
      ["Content", filesText(service)],
      ["May go to", EGRESS[service.egress ?? ""] ?? service.egress],
      ["Download", service.downloadable ? "an orchestrator may" : "jobs only"],
      ["Sealed on its way", service.seal ? "yes" : "no"],
      ["Manifest", code(String(service.manifest_sha256 ?? "–"))],
    );
    return facts;
  }
  if (service.service_type === "DOCKER") {
    facts.push(["Image", code(service.image ?? "")], ["Entrypoint", words(service.entrypoint)], ["Arguments", words(service.cmd)]);
  } else {
    facts.push(["Program", code(service.executable ?? "")], ["Arguments", words(service.cmd)], ["Confined", confinement(service.confine)]);
  }
  facts.push(
    ["Network", service.network || "none where confined"],
    ["Limits", bounds.length ? bounds.join(", ") : "none"],
    ["Arguments replaced by others", service.allow_override ? "allowed" : "no"],
    ["Tried again by itself", service.retry_safe ? `up to ${service.retry?.attempts ?? 1} times` : "no"],
  );
  const secrets = Array.isArray(service.secret_names) ? (service.secret_names as string[]) : [];
  if (secrets.length) facts.push(["Secrets", code(secrets.join(" "))]);
  return facts;
}

function confinement(confine: string | undefined): string {
  if (confine === "always") return "always";
  return confine === "never" ? "never" : "orders of other peers";
}

function UnlockDialog({ service, onClose }: { service: Service; onClose: () => void }): JSX.Element {
  const client = useClient();
  const toasts = useToasts();
  const [passphrase, setPassphrase] = useState("");
  const action = useAction(async () => {
    const { unlocked_until } = await client.call<{ unlocked_until: string }>("service.unlock", {
      service_id: service.id,
      passphrase,
    });
    toasts.say(`${service.name} is open until ${format.absolute(unlocked_until)}`);
    onClose();
  });
  return (
    <Dialog
      title={`Unlock ${service.name}`}
      onClose={onClose}
      onSubmit={() => void action.run()}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={action.busy} disabled={!passphrase}>
            Unlock
          </Button>
        </>
      }
    >
      <p>Orders of other peers can use the data until the time is up. Your own executions take the passphrase themselves.</p>
      <Field label="Passphrase">
        <TextInput type="password" autoFocus autoComplete="off" value={passphrase} onChange={(event) => setPassphrase(event.target.value)} />
      </Field>
      {action.error && <ErrorBox error={action.error} />}
    </Dialog>
  );
}

function DeleteDialog({ service, onClose }: { service: Service; onClose: () => void }): JSX.Element {
  const client = useClient();
  const toasts = useToasts();
  const users = useLive((c) => workflowsWith(c, service.id), []);
  return (
    <ConfirmDialog
      title={`Delete ${service.name}?`}
      action="Delete service"
      onClose={onClose}
      onConfirm={async () => {
        await client.call("service.delete", { service_id: service.id });
        toasts.say(`Deleted ${service.name}`);
      }}
    >
      <p>
        Nobody can order it any more.{" "}
        {service.service_type === "DATA"
          ? "The copy of the files that the peer keeps is removed; the originals stay."
          : "The program or image itself stays on this machine."}{" "}
        To pause it, deactivate it instead.
      </p>
      {users.value && users.value.length > 0 && (
        <div className="note note--warn">
          {format.count(users.value.length, "workflow draws", "workflows draw")} on it and will not execute:{" "}
          {users.value.map(({ name }) => name).join(", ")}
        </div>
      )}
      {users.value?.length === 0 && <p className="muted">No workflow of this peer draws on it.</p>}
    </ConfirmDialog>
  );
}

/** The workflows of this peer in whose drawing a service of its own is. */
async function workflowsWith(client: Client, serviceId: number): Promise<WorkflowSummary[]> {
  const { peer_id } = await client.call<{ peer_id: string }>("node.status");
  const workflows = await readAll<WorkflowSummary>(client, "workflow.list");
  const found: WorkflowSummary[] = [];
  for (const workflow of workflows.filter(({ node_count }) => node_count > 0).slice(0, LOOKED_AT)) {
    const nodes = await readAll<WorkflowNode>(client, "workflow.list_nodes", { workflow_id: workflow.id });
    if (nodes.some((node) => node.service_id === serviceId && node.peer_id === peer_id)) found.push(workflow);
  }
  return found;
}
