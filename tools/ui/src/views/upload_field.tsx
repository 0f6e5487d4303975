import type { ChangeEvent, DragEvent, JSX } from "react";
import { useEffect, useRef, useState } from "react";
import { Button, ErrorBox, Icon, IconButton, format } from "../parts";
import { asRpcError, readAll, useClient } from "../rpc";
import type { RpcError, Upload } from "../rpc";
import { uploadName } from "./file_names";
import { upload } from "./files";

interface Going {
  name: string;
  sent: number;
  total: number;
}

/** Files sent to the daemon ahead of the call that names them. What is not used is dropped there after a day. */
export function UploadField({
  names,
  onChange,
  onBusy,
  label = "Upload files",
  multiple = true,
}: {
  names: readonly string[];
  /** Gets a function, since several uploads may end at once. */
  onChange: (change: (before: readonly string[]) => string[]) => void;
  onBusy?: (busy: boolean) => void;
  label?: string;
  multiple?: boolean;
}): JSX.Element {
  const client = useClient();
  const input = useRef<HTMLInputElement>(null);
  const stop = useRef(new AbortController());
  const [going, setGoing] = useState<Going | null>(null);
  const [sizes, setSizes] = useState<Record<string, number>>({});
  const [error, setError] = useState<RpcError | null>(null);
  const [over, setOver] = useState(false);
  useEffect(() => {
    const { current } = stop;
    return () => current.abort();
  }, []);

  const send = async (files: readonly File[]): Promise<void> => {
    setError(null);
    onBusy?.(true);
    try {
      const taken = new Set((await readAll<Upload>(client, "upload.list")).map(({ name }) => name));
      for (const file of multiple ? files : files.slice(0, 1)) {
        const name = uploadName(file.name, taken);
        taken.add(name);
        setGoing({ name, sent: 0, total: file.size });
        const made = await upload(client, file, name, (sent, total) => setGoing({ name, sent, total }), stop.current.signal);
        setSizes((before) => ({ ...before, [made.name]: made.size_bytes }));
        onChange((before) => (multiple ? [...before, made.name] : [made.name]));
      }
    } catch (fault) {
      if (!stop.current.signal.aborted) setError(asRpcError(fault));
    } finally {
      setGoing(null);
      onBusy?.(false);
    }
  };
  const choose = (event: ChangeEvent<HTMLInputElement>): void => {
    const files = [...(event.target.files ?? [])];
    event.target.value = "";
    if (files.length) void send(files);
  };
  const drop = (event: DragEvent): void => {
    event.preventDefault();
    setOver(false);
    const files = [...event.dataTransfer.files];
    if (files.length && !going) void send(files);
  };
  const remove = (name: string): void => {
    onChange((before) => before.filter((each) => each !== name));
    client.call("upload.delete", { name }).catch(() => undefined); // the daemon drops it after a day anyway
  };

  return (
    <div className="stack stack--tight">
      <div
        className={`drop ${over ? "drop--over" : ""}`}
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={drop}
      >
        <input ref={input} type="file" multiple={multiple} hidden aria-label={label} data-testid="upload-file" onChange={choose} />
        <Button icon="upload" busy={going !== null} onClick={() => input.current?.click()}>
          {label}
        </Button>
        <span className="muted small">or drop {multiple ? "them" : "one"} here</span>
      </div>
      {going && (
        <div role="status">
          <div className="small muted">
            {going.name}: {format.bytes(going.sent)} of {format.bytes(going.total)}
          </div>
          <progress className="bar" max={going.total || 1} value={going.sent} aria-label={`Sending ${going.name}`} />
        </div>
      )}
      {names.length > 0 && (
        <ul className="stack stack--tight">
          {names.map((name) => (
            <li key={name} className="upload">
              <Icon name="check" />
              <span className="cut" title={name}>
                {name}
              </span>
              <span className="muted small nowrap">{format.bytes(sizes[name])}</span>
              <IconButton small icon="close" label={`Remove ${name}`} onClick={() => remove(name)} />
            </li>
          ))}
        </ul>
      )}
      {error && <ErrorBox error={error} />}
    </div>
  );
}
