// A new execution of what an earlier one did not complete.

import type { JSX } from "react";
import { useState } from "react";
import { Button, Dialog, ErrorBox, Field, TextInput, format, useAction } from "../parts";
import { useClient } from "../rpc";
import type { WorkflowJob } from "../rpc";

export function RetryDialog({
  executionId,
  jobs,
  onClose,
  onRetried,
}: {
  executionId: number;
  jobs: readonly WorkflowJob[];
  onClose: () => void;
  onRetried: (executionId: number) => void;
}): JSX.Element {
  const client = useClient();
  const [passphrase, setPassphrase] = useState("");
  const done = jobs.filter(({ status }) => status === "COMPLETED").length;
  const action = useAction(async () => {
    const made = await client.call<{ execution_id: number }>("execution.retry", {
      execution_id: executionId,
      ...(passphrase ? { passphrase } : {}),
    });
    onClose();
    onRetried(made.execution_id);
  });
  return (
    <Dialog
      title={`Retry execution #${executionId}?`}
      onClose={onClose}
      onSubmit={() => void action.run()}
      footer={
        <>
          <Button onClick={onClose}>Go back</Button>
          <Button type="submit" kind="primary" busy={action.busy} autoFocus>
            Retry
          </Button>
        </>
      }
    >
      <p>
        A new execution takes over the {format.count(done, "job")} that completed and runs the other{" "}
        {format.count(jobs.length - done, "job")}, as they were drawn then.
      </p>
      {jobs.some(({ service_type }) => service_type === "DATA") && (
        <Field label="Passphrase" optional hint="Where DATA of this peer is encrypted; none is ever kept.">
          <TextInput type="password" value={passphrase} onChange={(event) => setPassphrase(event.target.value)} />
        </Field>
      )}
      <ErrorBox error={action.error} />
    </Dialog>
  );
}
