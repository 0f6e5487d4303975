import type { JSX } from "react";
import { useState } from "react";
import { Button, Card, ConfirmDialog, CopyButton, Cut, Dialog, ErrorBox, Field, Loading, Select, StateBadge, Table, TextInput, Time, useAction, useToasts } from "../parts";
import type { Column } from "../parts";
import { readAll, useClient, useLive } from "../rpc";
import type { Token } from "../rpc";

const DAY_S = 86_400;

/** Who may use the API of this daemon. */
export function TokensCard(): JSX.Element {
  const client = useClient();
  const toasts = useToasts();
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<Token | null>(null);
  const tokens = useLive((c) => readAll<Token>(c, "token.list"), []);
  const columns: Column<Token>[] = [
    { name: "Name", head: true, className: "cell--wide", cell: (row) => <Cut text={row.name} /> },
    { name: "Scope", cell: (row) => row.scope },
    { name: "Made", className: "nowrap", cell: (row) => <Time time={row.created_at} /> },
    {
      name: "Ends",
      className: "nowrap",
      cell: (row) => (row.valid_until ? <Time time={row.valid_until} /> : <span className="muted">never</span>),
    },
    { name: "State", cell: (row) => <TokenState token={row} /> },
    {
      name: "Actions",
      hideName: true,
      className: "cell--actions",
      cell: (row) =>
        row.revoked_at ? null : (
          <Button small onClick={() => setRevoking(row)} aria-label={`Revoke ${row.name}`}>
            Revoke
          </Button>
        ),
    },
  ];
  return (
    <Card
      title="Tokens"
      actions={
        <Button small icon="add" onClick={() => setMaking(true)}>
          New token
        </Button>
      }
    >
      <ErrorBox error={tokens.error} onRetry={tokens.reload} />
      {tokens.loading ? <Loading /> : <Table caption="Tokens" columns={columns} rows={tokens.value ?? []} keyOf={(row) => row.id} />}
      {making && (
        <TokenDialog
          onClose={() => {
            setMaking(false);
            tokens.reload();
          }}
        />
      )}
      {revoking && (
        <ConfirmDialog
          title={`Revoke ${revoking.name}?`}
          action="Revoke token"
          onClose={() => setRevoking(null)}
          onConfirm={async () => {
            await client.call("token.revoke", { token_id: revoking.id });
            toasts.say(`${revoking.name} opens nothing any more`);
            tokens.reload();
          }}
        >
          <p>Whoever uses it is turned away at once. If this page signed in with it, you are signed out.</p>
        </ConfirmDialog>
      )}
    </Card>
  );
}

function TokenState({ token }: { token: Token }): JSX.Element {
  if (token.revoked_at) return <StateBadge state="revoked" tone="stopped" word="Revoked" />;
  if (token.valid_until && Date.parse(token.valid_until) < Date.now()) return <StateBadge state="ended" tone="idle" word="Ended" />;
  return <StateBadge state="valid" tone="done" word="Valid" />;
}

function TokenDialog({ onClose }: { onClose: () => void }): JSX.Element {
  const client = useClient();
  const [name, setName] = useState("");
  const [scope, setScope] = useState("operate");
  const [days, setDays] = useState("");
  const [made, setMade] = useState<Token | null>(null);
  const action = useAction(async () => {
    const valid = Number(days) * DAY_S;
    setMade(await client.call<Token>("token.create", { name: name.trim(), scope, ...(valid > 0 ? { valid_s: valid } : {}) }));
  });
  if (made?.token) {
    return (
      <Dialog
        title={`Token ${made.name}`}
        onClose={onClose}
        footer={
          <Button kind="primary" onClick={onClose}>
            I have kept it
          </Button>
        }
      >
        <p>It is shown this once. The daemon keeps only its hash.</p>
        <code className="invite__text" tabIndex={0} aria-label="Token">
          {made.token}
        </code>
        <div>
          <CopyButton text={made.token} label="Copy token" />
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog
      title="New token"
      onClose={onClose}
      onSubmit={() => name.trim() && void action.run()}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={action.busy} disabled={!name.trim()}>
            Create token
          </Button>
        </>
      }
    >
      <Field label="Name" hint="What it is for, such as the script or the person.">
        <TextInput autoFocus value={name} onChange={(event) => setName(event.target.value)} />
      </Field>
      <Field label="Scope">
        <Select
          value={scope}
          onChange={(event) => setScope(event.target.value)}
          choices={[
            { value: "read", label: "read: look at everything" },
            { value: "operate", label: "operate: draw and execute workflows too" },
            { value: "admin", label: "admin: services, peers and tokens too" },
          ]}
        />
      </Field>
      <Field label="Valid for" optional hint="Days; empty: until it is revoked.">
        <TextInput inputMode="decimal" value={days} onChange={(event) => setDays(event.target.value)} />
      </Field>
      {action.error && <ErrorBox error={action.error} />}
    </Dialog>
  );
}
