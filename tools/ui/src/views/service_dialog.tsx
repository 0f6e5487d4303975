// The form of a service: create one of each type, or change what may be changed.

import type { Dispatch, JSX, SetStateAction } from "react";
import { useEffect, useState } from "react";
import {
  Button,
  Checkbox,
  Dialog,
  ErrorBox,
  Field,
  FieldGroup,
  Segments,
  Select,
  TextArea,
  TextInput,
  format,
  useAction,
  useDirectory,
  useToasts,
} from "../parts";
import { useClient, useLive } from "../rpc";
import type { Service, ServiceType } from "../rpc";
import { InterfacesEditor } from "./interfaces_editor";
import { EMPTY_FORM, createParams, formOf, updateParams } from "./service_form";
import type { FormErrors, ServiceForm } from "./service_form";
import { UploadField } from "./upload_field";

interface Part {
  form: ServiceForm;
  set: (changes: Partial<ServiceForm>) => void;
  errors: FormErrors;
  /** A service that is being changed; `undefined`: a new one. */
  service: Service | undefined;
}

const KINDS = [
  { value: "DATA", label: "DATA", about: "Files that jobs read" },
  { value: "DOCKER", label: "DOCKER", about: "A container that computes" },
  { value: "STANDALONE", label: "STANDALONE", about: "A program of this machine" },
];

export function ServiceDialog({ service, onClose }: { service?: Service; onClose: () => void }): JSX.Element {
  const client = useClient();
  const toasts = useToasts();
  const { self } = useDirectory();
  const [form, setForm] = useState<ServiceForm>(() => (service ? formOf(service) : EMPTY_FORM));
  const [errors, setErrors] = useState<FormErrors>({});
  const [uploading, setUploading] = useState(false);
  const forgive = (names: string[]): void =>
    setErrors((before) => Object.fromEntries(Object.entries(before).filter(([name]) => !names.includes(name))));
  const set = (changes: Partial<ServiceForm>): void => {
    setForm((before) => ({ ...before, ...changes }));
    forgive(Object.keys(changes));
  };
  // An upload ends long after the render that began it: what the form was then is not what it is now.
  const setUploads = (change: (before: readonly string[]) => string[]): void => {
    setForm((before) => ({ ...before, uploads: change(before.uploads) }));
    forgive(["paths"]);
  };
  const action = useAction(async (params: Record<string, unknown>) => {
    const made = await client.call<Service>(service ? "service.update" : "service.create", params);
    toasts.say(made.warn ? `${made.name}: ${made.warn}` : service ? `Saved ${made.name}` : `${made.name} is offered now`);
    onClose();
  });
  const submit = (): void => {
    const { params, errors: wrong } = service ? updateParams(service, form) : createParams(form);
    setErrors(wrong);
    if (Object.keys(wrong).length === 0) void action.run(params);
  };
  useEffect(() => {
    // The first field that needs another look, also where it is folded away.
    if (Object.keys(errors).length === 0) return;
    const field = document.querySelector<HTMLElement>("dialog[open] [aria-invalid=true]");
    field?.closest("details")?.setAttribute("open", "");
    if (!document.activeElement?.matches("input, textarea, select")) field?.focus();
  }, [errors]);
  const part: Part = { form, set, errors, service };
  const docker = self?.executors.docker;
  return (
    <Dialog
      wide
      title={service ? `Change ${service.name}` : "New service"}
      onClose={onClose}
      onSubmit={submit}
      footer={
        <>
          {Object.keys(errors).length > 0 && (
            <span className="field__error form__verdict" role="alert">
              {format.count(Object.keys(errors).length, "field needs", "fields need")} another look.
            </span>
          )}
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={action.busy} disabled={uploading}>
            {service ? "Save" : "Offer service"}
          </Button>
        </>
      }
    >
      {!service && (
        <Segments
          label="Type"
          name="service_type"
          value={form.service_type}
          choices={KINDS}
          onChange={(value) => {
            setForm((before) => ({ ...before, service_type: value as ServiceType, interfaces: null, network: "" }));
            setErrors({});
          }}
        />
      )}
      {form.service_type === "DOCKER" && docker && !docker.available && (
        <div className="note note--warn">Containers do not run here now: {docker.reason}</div>
      )}
      <Field label="Name" error={errors.name}>
        <TextInput value={form.name} maxLength={200} autoFocus onChange={(event) => set({ name: event.target.value })} />
      </Field>
      <Field label="Description" optional>
        <TextArea rows={2} value={form.description} onChange={(event) => set({ description: event.target.value })} />
      </Field>
      {form.service_type === "DATA" && <DataFields {...part} onUploads={setUploads} onBusy={setUploading} />}
      {form.service_type === "DOCKER" && <DockerFields {...part} />}
      {form.service_type === "STANDALONE" && <StandaloneFields {...part} />}
      <details className="more">
        <summary>Interfaces</summary>
        <InterfacesEditor
          kind={form.service_type}
          image={form.image}
          rows={form.interfaces}
          error={errors.interfaces}
          onChange={(interfaces) => set({ interfaces })}
        />
      </details>
      {form.service_type !== "DATA" && (
        <>
          <Limits {...part} />
          <Environment {...part} />
        </>
      )}
      <Terms {...part} />
      {action.busy && form.service_type === "DOCKER" && <PullNews name={form.name.trim()} />}
      {action.error && <ErrorBox error={action.error} />}
    </Dialog>
  );
}

function DataFields({
  form,
  set,
  errors,
  service,
  onUploads,
  onBusy,
}: Part & {
  onUploads: (change: (before: readonly string[]) => string[]) => void;
  onBusy: Dispatch<SetStateAction<boolean>>;
}): JSX.Element {
  const { peers, nameOf } = useDirectory();
  return (
    <>
      {!service && (
        <>
          <FieldGroup label="Files" hint="They are copied now; later changes of the originals are not seen.">
            <div className="stack stack--tight">
              <UploadField names={form.uploads} onChange={onUploads} onBusy={onBusy} />
              <Field label="Paths on this machine" optional error={errors.paths} hint="Files or folders, one absolute path a line.">
                <TextArea mono rows={2} placeholder="/srv/data/words.txt" value={form.paths} onChange={(event) => set({ paths: event.target.value })} />
              </Field>
            </div>
          </FieldGroup>
          <Field
            label="Passphrase"
            optional
            hint="Encrypts the files on this machine’s disk. Whoever executes a workflow of it here gives it again; without it the files are lost."
          >
            <TextInput type="password" autoComplete="new-password" value={form.passphrase} onChange={(event) => set({ passphrase: event.target.value })} />
          </Field>
        </>
      )}
      <Field label="May go to" error={errors.egress}>
        <Select
          value={form.egress}
          onChange={(event) => set({ egress: event.target.value })}
          choices={[
            { value: "any_job", label: "Any job, on any peer" },
            { value: "listed", label: "Jobs on the peers chosen here" },
            { value: "here_only", label: "Only jobs on this peer" },
          ]}
        />
      </Field>
      {form.egress === "listed" && (
        <FieldGroup label="Peers that may have it">
          {peers.length ? (
            peers.map((peer) => (
              <Checkbox
                key={peer.peer_id}
                label={<span title={peer.peer_id}>{nameOf(peer.peer_id)}</span>}
                checked={form.egress_peers.includes(peer.peer_id)}
                onChange={(event) =>
                  set({
                    egress_peers: event.target.checked
                      ? [...form.egress_peers, peer.peer_id]
                      : form.egress_peers.filter((id) => id !== peer.peer_id),
                  })
                }
              />
            ))
          ) : (
            <p className="muted small">No other peer is known yet. Until one is listed, nobody else gets the data.</p>
          )}
        </FieldGroup>
      )}
      <Checkbox
        label="An orchestrator may download it"
        hint="Otherwise only jobs read it."
        checked={form.downloadable}
        onChange={(event) => set({ downloadable: event.target.checked })}
      />
      <Checkbox
        label="Seal every chunk on its way"
        hint="Encrypted for its receiver once more, beside the link."
        checked={form.seal}
        onChange={(event) => set({ seal: event.target.checked })}
      />
    </>
  );
}

function DockerFields({ form, set, errors, service }: Part): JSX.Element {
  return (
    <>
      <Field label="Image" error={errors.image} hint="A name, digest or id. Looked for on this machine, else pulled, and pinned by what it means now.">
        <TextInput mono placeholder="python:3.12-slim" value={form.image} onChange={(event) => set({ image: event.target.value })} />
      </Field>
      <Field label="Build from folder" optional hint="A folder of this machine with a Dockerfile, built without network.">
        <TextInput mono placeholder="/srv/builds/train" value={form.build_context} onChange={(event) => set({ build_context: event.target.value })} />
      </Field>
      <div className="form-grid">
        <Field label="Entrypoint" optional error={errors.entrypoint} hint="One word a line, or a JSON list; empty: the image’s own.">
          <TextArea mono rows={2} value={form.entrypoint} onChange={(event) => set({ entrypoint: event.target.value })} />
        </Field>
        <Field label="Arguments" optional error={errors.cmd} hint="One a line, or a JSON list; empty: the image’s own.">
          <TextArea mono rows={2} value={form.cmd} onChange={(event) => set({ cmd: event.target.value })} />
        </Field>
      </div>
      <details className="more">
        <summary>Container</summary>
        <div className="stack">
          <div className="form-grid">
            <Field label="Network">
              <Select
                value={form.network || "none"}
                onChange={(event) => set({ network: event.target.value })}
                choices={[
                  { value: "none", label: "None" },
                  { value: "bridge", label: "Bridge: to other hosts" },
                ]}
              />
            </Field>
            <Field label="User" optional hint="Number, or user:group.">
              <TextInput mono value={form.user} onChange={(event) => set({ user: event.target.value })} />
            </Field>
            <Field label="Size of /tmp" optional error={errors.tmpfs} hint="0 for none.">
              <TextInput placeholder="64 MB" value={form.tmpfs} onChange={(event) => set({ tmpfs: event.target.value })} />
            </Field>
            <Field label="Capabilities given back" optional hint="Such as CHOWN SETUID.">
              <TextInput mono value={form.cap_add} onChange={(event) => set({ cap_add: event.target.value })} />
            </Field>
          </div>
          <Checkbox
            label="Root file system is read-only"
            hint="/output, /tmp and MOUNTs can be written all the same."
            checked={form.read_only_root}
            onChange={(event) => set({ read_only_root: event.target.checked })}
          />
          <div className="form-grid">
            <Field label="Registry user" optional error={errors.registry_username} hint={service ? "Kept as it is where both are empty." : undefined}>
              <TextInput value={form.registry_username} onChange={(event) => set({ registry_username: event.target.value })} />
            </Field>
            <Field label="Registry password" optional error={errors.registry_password} hint="Kept sealed, never shown.">
              <TextInput type="password" autoComplete="new-password" value={form.registry_password} onChange={(event) => set({ registry_password: event.target.value })} />
            </Field>
          </div>
        </div>
      </details>
    </>
  );
}

function StandaloneFields({ form, set, errors }: Part): JSX.Element {
  return (
    <>
      <Field label="Program" error={errors.executable} hint="Absolute path on this machine.">
        <TextInput mono placeholder="/usr/bin/wc" value={form.executable} onChange={(event) => set({ executable: event.target.value })} />
      </Field>
      <Field label="Arguments" optional error={errors.cmd} hint="One a line, or a JSON list.">
        <TextArea mono rows={2} value={form.cmd} onChange={(event) => set({ cmd: event.target.value })} />
      </Field>
      <details className="more">
        <summary>Confinement</summary>
        <div className="stack">
          <div className="form-grid">
            <Field label="Confine">
              <Select
                value={form.confine}
                onChange={(event) => set({ confine: event.target.value })}
                choices={[
                  { value: "auto", label: "Orders of other peers" },
                  { value: "always", label: "Always" },
                  { value: "never", label: "Never: it can do what the daemon can" },
                ]}
              />
            </Field>
            <Field label="Network" error={errors.network}>
              <Select
                value={form.network}
                onChange={(event) => set({ network: event.target.value })}
                choices={[
                  { value: "", label: "None where confined" },
                  { value: "none", label: "None" },
                  { value: "host", label: "This machine’s" },
                ]}
              />
            </Field>
            <Field label="Weakest sandbox" error={errors.min_sandbox}>
              <Select
                value={form.min_sandbox}
                onChange={(event) => set({ min_sandbox: event.target.value })}
                choices={[
                  { value: "", label: "As configured" },
                  { value: "none", label: "None" },
                  { value: "landlock", label: "Landlock" },
                  { value: "bubblewrap", label: "Bubblewrap" },
                ]}
              />
            </Field>
          </div>
          {form.confine === "never" && (
            <div className="note note--warn">Other peers’ orders then run as the daemon’s user, with all its files in reach.</div>
          )}
          <Field label="Paths it may see" optional hint="One a line, beside the system’s own; “/srv/models rw” may be written.">
            <TextArea mono rows={2} value={form.host_paths} onChange={(event) => set({ host_paths: event.target.value })} />
          </Field>
          <Field label="Working directory" optional error={errors.working_directory} hint="Empty: the job’s output folder.">
            <TextInput mono value={form.working_directory} onChange={(event) => set({ working_directory: event.target.value })} />
          </Field>
        </div>
      </details>
    </>
  );
}

function Limits({ form, set, errors }: Part): JSX.Element {
  return (
    <details className="more">
      <summary>Limits of one run</summary>
      <div className="form-grid">
        <Field label="CPUs" optional error={errors.cpus}>
          <TextInput inputMode="decimal" placeholder="2" value={form.cpus} onChange={(event) => set({ cpus: event.target.value })} />
        </Field>
        <Field label="Memory" optional error={errors.memory}>
          <TextInput placeholder="512 MB" value={form.memory} onChange={(event) => set({ memory: event.target.value })} />
        </Field>
        <Field label="Disk" optional error={errors.disk} hint="What it adds to its folder.">
          <TextInput placeholder="2 GB" value={form.disk} onChange={(event) => set({ disk: event.target.value })} />
        </Field>
        <Field label="Time" optional error={errors.timeout_s} hint="Seconds.">
          <TextInput inputMode="decimal" placeholder="600" value={form.timeout_s} onChange={(event) => set({ timeout_s: event.target.value })} />
        </Field>
        <Field label="Processes" optional error={errors.pids}>
          <TextInput inputMode="numeric" value={form.pids} onChange={(event) => set({ pids: event.target.value })} />
        </Field>
        <Field label="Open files" optional error={errors.open_files}>
          <TextInput inputMode="numeric" value={form.open_files} onChange={(event) => set({ open_files: event.target.value })} />
        </Field>
        <Field label="GPUs" optional error={errors.gpus}>
          <TextInput inputMode="numeric" value={form.gpus} onChange={(event) => set({ gpus: event.target.value })} />
        </Field>
      </div>
    </details>
  );
}

function Environment({ form, set, errors, service }: Part): JSX.Element {
  const kept = Array.isArray(service?.secret_names) ? (service.secret_names as string[]) : [];
  return (
    <details className="more">
      <summary>Environment and secrets</summary>
      <div className="stack">
        <Field label="Environment" optional error={errors.env} hint="NAME=value, one a line.">
          <TextArea mono rows={2} value={form.env} onChange={(event) => set({ env: event.target.value })} />
        </Field>
        {kept.length > 0 && (
          <FieldGroup label="Secrets it has" hint="Their values are never shown. A checked one is removed.">
            {kept.map((name) => (
              <Checkbox
                key={name}
                label={`Remove ${name}`}
                checked={form.secrets_removed.includes(name)}
                onChange={(event) =>
                  set({
                    secrets_removed: event.target.checked
                      ? [...form.secrets_removed, name]
                      : form.secrets_removed.filter((each) => each !== name),
                  })
                }
              />
            ))}
          </FieldGroup>
        )}
        <Field label={kept.length ? "New secrets" : "Secrets"} optional error={errors.secrets} hint="name=value, one a line. The job finds each as a file; nobody can read them back here.">
          <TextArea mono rows={2} value={form.secrets} onChange={(event) => set({ secrets: event.target.value })} />
        </Field>
      </div>
    </details>
  );
}

function Terms({ form, set, errors }: Part): JSX.Element {
  return (
    <details className="more">
      <summary>Access and terms</summary>
      <div className="stack">
        <div className="form-grid">
          <Field label="Who may order it">
            <Select
              value={form.access}
              onChange={(event) => set({ access: event.target.value })}
              choices={[
                { value: "allowed", label: "Every allowed peer" },
                { value: "granted", label: "Only peers with a grant" },
              ]}
            />
          </Field>
          <Field label="Price" optional error={errors.pricing_amount}>
            <TextInput inputMode="decimal" placeholder="0" value={form.pricing_amount} onChange={(event) => set({ pricing_amount: event.target.value })} />
          </Field>
          <Field label="Priced" optional hint="Such as PER_RUN; empty: FREE.">
            <TextInput value={form.pricing_type} maxLength={50} onChange={(event) => set({ pricing_type: event.target.value })} />
          </Field>
        </div>
        {form.service_type !== "DATA" && (
          <>
            <Checkbox
              label="Other peers may replace the arguments"
              checked={form.allow_override}
              onChange={(event) => set({ allow_override: event.target.checked })}
            />
            <Checkbox
              label="Running it twice does no harm"
              hint="A run that was cut off may then be tried again by itself."
              checked={form.retry_safe}
              onChange={(event) => set({ retry_safe: event.target.checked })}
            />
            {form.retry_safe && (
              <div className="form-grid">
                <Field label="Attempts" optional error={errors.attempts}>
                  <TextInput inputMode="numeric" placeholder="1" value={form.attempts} onChange={(event) => set({ attempts: event.target.value })} />
                </Field>
                <Field label="Pause between them" optional error={errors.backoff_s} hint="Seconds.">
                  <TextInput inputMode="decimal" placeholder="0" value={form.backoff_s} onChange={(event) => set({ backoff_s: event.target.value })} />
                </Field>
              </div>
            )}
          </>
        )}
      </div>
    </details>
  );
}

/** How far the image is that the daemon fetches before it can answer. */
function PullNews({ name }: { name: string }): JSX.Element {
  const [last, setLast] = useState<Record<string, unknown> | null>(null);
  useLive(async () => null, ["image.progress"], [name], {
    concerns: (event) => {
      if (event.data.service_name === name) setLast(event.data);
      return false;
    },
  });
  const total = Number(last?.bytes_total) || 0;
  return (
    <div className="note" role="status">
      {last
        ? `${String(last.status)}${total ? `: ${format.bytes(Number(last.bytes_done))} of ${format.bytes(total)}` : ""}`
        : "Looking for the image…"}
    </div>
  );
}
