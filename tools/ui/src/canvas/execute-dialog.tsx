// Everything a run may need that is not drawn: files from this peer, passphrases, shorter deadlines.

import type { JSX } from "react";
import { useCallback, useEffect, useRef, useState } from "react";
import type { Drawing, DrawnWire, Key } from "../graph/drawing";
import { endLabel, endsOf } from "../graph/handles";
import { namesOf } from "../graph/rules";
import { Button, Dialog, ErrorBox, Field, TextInput, format, useAction, useDirectory } from "../parts";
import { RpcError, asRpcError, readAll, useClient, useLive } from "../rpc";
import type { Client, Service, Upload } from "../rpc";
import { uploadName } from "../views/file_names";
import { upload } from "../views/files";
import type { DesignStore } from "./store";

interface Source {
  file: File | null;
  path: string;
}

const DEADLINES = [
  { name: "workflow_deadline_s", label: "Whole workflow", hint: "Seconds until it is cancelled." },
  { name: "max_runtime_s", label: "Each job", hint: "Seconds a job may run." },
  { name: "start_by_s", label: "Start", hint: "Seconds until every job must have begun." },
  { name: "transfer_idle_s", label: "Idle transfer", hint: "Seconds a transfer may stand still." },
] as const;

export function ExecuteDialog({
  design,
  drawing,
  onClose,
  onExecuted,
  onRefused,
}: {
  design: DesignStore;
  drawing: Drawing;
  onClose: () => void;
  onExecuted: (executionId: number) => void;
  onRefused: (error: RpcError) => void;
}): JSX.Element {
  const client = useClient();
  const { self, nameOf } = useDirectory();
  const sending = [...drawing.wires.values()].filter((wire) => wire.from === null);
  const [sources, setSources] = useState<ReadonlyMap<Key, Source>>(new Map());
  const [passphrases, setPassphrases] = useState<Record<number, string>>({});
  const [deadlines, setDeadlines] = useState<Record<string, string>>({});
  const [progress, setProgress] = useState("");
  const services = useLive((c) => readAll<Service>(c, "service.list", { service_type: "DATA" }), []);
  const nodes = [...drawing.nodes.values()];
  const own = new Set(nodes.filter((node) => node.peer_id === self?.peer_id).map((node) => node.service_id));
  const locked = (services.value ?? []).filter((service) => service.encrypted === true && own.has(service.id));
  const peers = [...new Set(nodes.map((node) => node.peer_id))];
  const price = nodes.reduce((sum, node) => sum + node.pricing_amount, 0);

  const stop = useRef(new AbortController());
  const sent = useRef(new Map<File, string>());
  const ordered = useRef(false);
  // What was sent ahead for a run that does not come about, or for a file that was chosen no more, is for nobody.
  const drop = useCallback(
    (used: readonly string[] = []) => {
      for (const name of sent.current.values()) {
        if (!used.includes(`upload:${name}`)) client.call("upload.delete", { name }).catch(() => undefined); // dropped after a day anyway
      }
    },
    [client],
  );
  useEffect(() => {
    const { current } = stop;
    return () => {
      current.abort();
      if (!ordered.current) drop();
    };
  }, [drop]);
  const action = useAction(async () => {
    const { signal } = stop.current;
    try {
      const shorter = numbers(deadlines);
      await design.settled();
      const inputs = await gather(client, design, sending, sources, sent.current, setProgress, signal);
      signal.throwIfAborted();
      setProgress("");
      ordered.current = true;
      const answer = await client.call<{ execution_id: number }>("workflow.execute", {
        workflow_id: design.workflowId,
        inputs,
        passphrases: Object.fromEntries(Object.entries(passphrases).filter(([, phrase]) => phrase !== "")),
        deadlines: shorter,
      });
      drop(Object.values(inputs));
      onExecuted(answer.execution_id);
    } catch (fault) {
      if (ordered.current && signal.aborted) drop();
      ordered.current = false;
      if (!signal.aborted) onRefused(asRpcError(fault));
      throw fault;
    } finally {
      setProgress("");
    }
  });

  return (
    <Dialog
      title="Execute"
      onClose={onClose}
      onSubmit={() => void action.run()}
      footer={
        <>
          {progress && (
            <span className="muted small dialog__progress" role="status">
              {progress}
            </span>
          )}
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" icon="play" busy={action.busy} autoFocus disabled={nodes.length === 0}>
            Execute
          </Button>
        </>
      }
    >
      <p>
        {nodes.length === 0
          ? "There is no node on the canvas yet: put a service on it first."
          : `${format.count(nodes.length, "job")} on ${peers.length === 1 ? nameOf(peers[0] ?? "") : format.count(peers.length, "peer")}${price > 0 ? `, prices add up to ${price.toLocaleString("en")}` : ""}.`}
      </p>
      {sending.map((wire) => (
        <SourceField
          key={wire.key}
          wire={wire}
          drawing={drawing}
          source={sources.get(wire.key) ?? { file: null, path: "" }}
          onChange={(source) => setSources(new Map(sources).set(wire.key, source))}
        />
      ))}
      {locked.map((service) => (
        <Field key={service.id} label={`Passphrase for ${service.name}`} hint="It is encrypted here. Passphrases are never kept.">
          <TextInput
            type="password"
            value={passphrases[service.id] ?? ""}
            onChange={(event) => setPassphrases({ ...passphrases, [service.id]: event.target.value })}
          />
        </Field>
      ))}
      <details className="more">
        <summary>Deadlines</summary>
        <div className="form-grid">
          {DEADLINES.map(({ name, label, hint }) => (
            <Field key={name} label={label} hint={hint} optional>
              <TextInput
                inputMode="decimal"
                value={deadlines[name] ?? ""}
                onChange={(event) => setDeadlines({ ...deadlines, [name]: event.target.value })}
              />
            </Field>
          ))}
        </div>
        <p className="muted small">They can only be shorter than this peer’s own.</p>
      </details>
      <ErrorBox error={action.error} />
    </Dialog>
  );
}

function SourceField({
  wire,
  drawing,
  source,
  onChange,
}: {
  wire: DrawnWire;
  drawing: Drawing;
  source: Source;
  onChange: (source: Source) => void;
}): JSX.Element {
  const [, to] = endsOf(wire);
  const receiver = to.node === null ? "" : (namesOf(drawing.nodes).get(to.node) ?? "");
  const where = `${endLabel(to)} of ${receiver}`;
  return (
    <fieldset className="field source">
      <legend className="field__label">Input for {where}</legend>
      <div className="source__choices">
        <input
          type="file"
          className="input input--file"
          aria-label={`Upload a file for ${where}`}
          onChange={(event) => onChange({ ...source, file: event.target.files?.[0] ?? null })}
        />
        <span className="muted small">or a path on this peer</span>
        <TextInput
          mono
          aria-label={`Path of the input for ${where}`}
          placeholder={wire.source_path ?? "/home/me/input.csv"}
          value={source.path}
          disabled={source.file !== null}
          onChange={(event) => onChange({ ...source, path: event.target.value })}
        />
      </div>
      {wire.source_path && !source.file && !source.path && (
        <span className="field__hint">Left empty: {wire.source_path}, as drawn.</span>
      )}
    </fieldset>
  );
}

/** Send the chosen files ahead, each once however often a run is refused, and name the source of each connection. */
async function gather(
  client: Client,
  design: DesignStore,
  wires: readonly DrawnWire[],
  sources: ReadonlyMap<Key, Source>,
  sent: Map<File, string>,
  tell: (words: string) => void,
  signal: AbortSignal,
): Promise<Record<string, string>> {
  const inputs: Record<string, string> = {};
  const chosen = wires.filter((wire) => sources.get(wire.key)?.file);
  const taken =
    chosen.length === 0 ? new Set<string>() : new Set((await readAll<Upload>(client, "upload.list")).map(({ name }) => name));
  for (const wire of wires) {
    const id = design.wireKeys.idOf(wire.key);
    const source = sources.get(wire.key);
    if (id === undefined || !source) continue;
    if (source.file) {
      const { file } = source;
      let name = sent.get(file);
      if (name === undefined || !taken.has(name)) {
        name = uploadName(file.name, taken);
        const told = (done: number, total: number): void =>
          tell(`Uploading ${file.name}: ${format.bytes(done)} of ${format.bytes(total)}`);
        await upload(client, file, name, told, signal);
        sent.set(file, name);
        taken.add(name);
      }
      inputs[String(id)] = `upload:${name}`;
    } else if (source.path.trim()) inputs[String(id)] = source.path.trim();
  }
  return inputs;
}

function numbers(texts: Record<string, string>): Record<string, number> {
  const given = Object.entries(texts).filter(([, text]) => text.trim() !== "");
  return Object.fromEntries(
    given.map(([name, text]) => {
      const value = Number(text);
      if (!Number.isFinite(value) || value <= 0) {
        throw new RpcError(-32602, `${text} is no number of seconds`, { hint: "Write a number above 0, or leave it empty." });
      }
      return [name, value];
    }),
  );
}
