import type { JSX } from "react";
import { Button, Checkbox, ErrorBox, IconButton, Select, TextInput, useAction } from "../parts";
import { useClient } from "../rpc";
import type { InterfaceType, MountFunction, ServiceInterface, ServiceType } from "../rpc";
import { DEFAULT_INTERFACES, plainInterface, rowOf } from "./service_form";
import type { InterfaceRow } from "./service_form";

const TYPES: Record<ServiceType, InterfaceType[]> = {
  DATA: ["STDOUT"],
  DOCKER: ["STDIN", "STDOUT", "STDERR", "LOGS", "MOUNT"],
  STANDALONE: ["STDIN", "STDOUT", "STDERR", "LOGS", "MOUNT"],
};

/** The ways in and out of a service: the defaults of its type, or a list of one's own. */
export function InterfacesEditor({
  kind,
  image,
  rows,
  error,
  onChange,
}: {
  kind: ServiceType;
  image: string;
  rows: InterfaceRow[] | null;
  error: string | undefined;
  onChange: (rows: InterfaceRow[] | null) => void;
}): JSX.Element {
  const client = useClient();
  const suggest = useAction(async () => {
    const found = await client.call<ServiceInterface[]>("service.suggest_interfaces", {
      service_type: kind,
      ...(kind === "DOCKER" && image.trim() ? { image: image.trim() } : {}),
    });
    onChange(found.map(rowOf));
  });
  const shown = rows ?? DEFAULT_INTERFACES[kind].map(plainInterface);
  const change = (at: number, changes: Partial<InterfaceRow>): void =>
    onChange(shown.map((row, index) => (index === at ? { ...row, ...changes } : row)));
  return (
    <div className="stack">
      <p className="muted small">
        {rows ? "What connections of a drawing can hold on to." : "The defaults of the type. Change one to make the list your own."}
      </p>
      <ul className="faces">
        {shown.map((row, at) => (
          <li key={at} className="face">
            <Select
              aria-label={`Interface ${at + 1}: type`}
              choices={TYPES[kind].map((value) => ({ value, label: value }))}
              value={row.interface_type}
              onChange={(event) => change(at, { interface_type: event.target.value as InterfaceType })}
            />
            {row.interface_type === "MOUNT" ? (
              <>
                <TextInput
                  mono
                  aria-label={`Interface ${at + 1}: path`}
                  placeholder="/input"
                  value={row.path}
                  onChange={(event) => change(at, { path: event.target.value })}
                />
                <Select
                  aria-label={`Interface ${at + 1}: what the job does with it`}
                  choices={[
                    { value: "INPUT", label: "INPUT: reads it" },
                    { value: "OUTPUT", label: "OUTPUT: writes it" },
                    { value: "BOTH", label: "BOTH" },
                  ]}
                  value={row.mount_function || "BOTH"}
                  onChange={(event) => change(at, { mount_function: event.target.value as MountFunction })}
                />
              </>
            ) : (
              <TextInput
                className="face__about"
                aria-label={`Interface ${at + 1}: description`}
                placeholder="Description (optional)"
                value={row.description}
                onChange={(event) => change(at, { description: event.target.value })}
              />
            )}
            <Checkbox label="Required" checked={row.required} onChange={(event) => change(at, { required: event.target.checked })} />
            <IconButton
              icon="trash"
              label={`Remove interface ${at + 1}, ${row.interface_type}`}
              disabled={shown.length === 1}
              onClick={() => onChange(shown.filter((_, index) => index !== at))}
            />
          </li>
        ))}
      </ul>
      <div className="row">
        {kind !== "DATA" && (
          <Button small icon="add" onClick={() => onChange([...shown, { ...plainInterface("MOUNT"), mount_function: "INPUT" }])}>
            Add a MOUNT
          </Button>
        )}
        {kind === "DOCKER" && (
          <Button small busy={suggest.busy} disabled={!image.trim()} onClick={() => void suggest.run()}>
            Suggest from the image
          </Button>
        )}
        {rows && (
          <Button small kind="ghost" onClick={() => onChange(null)}>
            Back to the defaults
          </Button>
        )}
      </div>
      {error && <p className="field__error">{error}</p>}
      {suggest.error && <ErrorBox error={suggest.error} />}
    </div>
  );
}
