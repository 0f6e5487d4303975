import type { JSX } from "react";
import { useEffect, useMemo, useRef, useState } from "react";
import {
  Button,
  Card,
  ConfirmDialog,
  CopyButton,
  Cut,
  Dialog,
  Empty,
  ErrorBox,
  Facts,
  Field,
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
  useDirectory,
  useNow,
  useToasts,
} from "../parts";
import type { Column, MenuItem } from "../parts";
import { readAll, useClient, useLive, useReread } from "../rpc";
import type { Invite, NodeCapabilities, Peer, PeerState } from "../rpc";
import { capabilityFacts } from "./capabilities";
import { GrantsCard } from "./grants";
import { usePaged } from "./paged";
import { pathOf, qrCode } from "./qr";

type Open = { dialog: "invite" | "join" } | { dialog: "show" | "rename" | "deny" | "remove"; peer: Peer } | null;

const REREAD_MS = 10_000;

export function PeersPage(): JSX.Element {
  const client = useClient();
  const toasts = useToasts();
  const [open, setOpen] = useState<Open>(null);
  const peers = useLive((c) => readAll<Peer>(c, "peer.list"), ["peer.updated"], [], { gatherMs: 300 });
  useReread(peers.reload, REREAD_MS); // round trips change without an event
  const sorted = useMemo(
    () =>
      [...(peers.value ?? [])].sort(
        (a, b) => Number(b.connected) - Number(a.connected) || nameOf(a).localeCompare(nameOf(b)),
      ),
    [peers.value],
  );
  const { rows, pager } = usePaged(sorted);

  const act = async (what: () => Promise<unknown>, said: string): Promise<void> => {
    try {
      await what();
      toasts.say(said);
    } catch (fault) {
      toasts.fail(fault);
    }
  };
  const setState = (peer: Peer, state: PeerState, said: string): Promise<void> =>
    act(() => client.call("peer.set_state", { peer_id: peer.peer_id, state }), said);
  const itemsOf = (peer: Peer): MenuItem[] => [
    { label: "Details", icon: "eye", onSelect: () => setOpen({ dialog: "show", peer }) },
    peer.connected
      ? { label: "Disconnect", icon: "close", needs: "operate", onSelect: () => void act(() => client.call("peer.disconnect", { peer_id: peer.peer_id }), `Disconnected from ${nameOf(peer)}`) }
      : {
          label: "Connect",
          needs: "operate",
          icon: "play",
          disabled: peer.state !== "allowed",
          onSelect: () => void act(() => client.call("peer.connect", { peer_id: peer.peer_id }), `Connected to ${nameOf(peer)}`),
        },
    ...(peer.state === "allowed" ? [] : [{ label: "Allow", icon: "check" as const, needs: "admin" as const, onSelect: () => void setState(peer, "allowed", `${nameOf(peer)} may connect and order`) }]),
    { label: "Rename…", icon: "edit", needs: "admin", onSelect: () => setOpen({ dialog: "rename", peer }) },
    ...(peer.state === "denied" ? [] : [{ label: "Deny…", icon: "stop" as const, danger: true, needs: "admin" as const, onSelect: () => setOpen({ dialog: "deny", peer }) }]),
    { label: "Remove…", icon: "trash", danger: true, needs: "admin", onSelect: () => setOpen({ dialog: "remove", peer }) },
  ];

  const columns: Column<Peer>[] = [
    {
      name: "Peer",
      head: true,
      className: "cell--wide",
      cell: (row) => (
        <>
          <button type="button" className="link cut" title={nameOf(row)} onClick={() => setOpen({ dialog: "show", peer: row })}>
            {nameOf(row)}
          </button>
          <Cut text={row.peer_id} className="muted small mono description" />
        </>
      ),
    },
    { name: "State", className: "nowrap", cell: (row) => <StateBadge state={row.state} /> },
    { name: "Link", className: "cell--cut", cell: (row) => <Link peer={row} /> },
    {
      name: "Round trip",
      className: "cell--number",
      cell: (row) => (row.rtt_ms === null || !row.connected ? <span className="muted">–</span> : `${roundTrip(row.rtt_ms)} ms`),
    },
    { name: "Last seen", className: "nowrap", cell: (row) => (row.connected ? "now" : <Time time={row.last_seen_at} />) },
    {
      name: "Actions",
      hideName: true,
      className: "cell--actions",
      cell: (row) => <Menu label={`Actions for ${nameOf(row)}`} items={itemsOf(row)} />,
    },
  ];
  const actions = (
    <>
      <Button needs="admin" onClick={() => setOpen({ dialog: "join" })}>Join by invite</Button>
      <Button kind="primary" icon="add" needs="admin" onClick={() => setOpen({ dialog: "invite" })}>
        Invite a peer
      </Button>
    </>
  );
  return (
    <div className="page">
      <PageHeader title="Peers" about="Machines that this one works with. Only allowed peers connect, see services and order." actions={actions} />
      <ErrorBox error={peers.error} onRetry={peers.reload} />
      <Card>
        {peers.loading ? (
          <Loading what="Reading the peers" />
        ) : rows.length ? (
          <Table caption="Peers" columns={columns} rows={rows} keyOf={(row) => row.peer_id} />
        ) : (
          <Empty icon="peers" title="No other peer yet" actions={actions}>
            Invite one: it gets a line to paste on the other machine. Or paste here the line that somebody sent you.
          </Empty>
        )}
        {pager}
      </Card>
      {(peers.value?.length ?? 0) > 0 && <GrantsCard />}
      {open?.dialog === "invite" && <InviteDialog onClose={() => setOpen(null)} />}
      {open?.dialog === "join" && <JoinDialog onClose={() => setOpen(null)} />}
      {open?.dialog === "rename" && <RenameDialog peer={open.peer} onClose={() => setOpen(null)} />}
      {open?.dialog === "show" && (
        <PeerDialog peer={peers.value?.find(({ id }) => id === open.peer.id) ?? open.peer} onClose={() => setOpen(null)} />
      )}
      {open?.dialog === "deny" && (
        <ConfirmDialog
          title={`Deny ${nameOf(open.peer)}?`}
          action="Deny peer"
          onClose={() => setOpen(null)}
          onConfirm={() => client.call("peer.set_state", { peer_id: open.peer.peer_id, state: "denied" })}
        >
          <p>
            Its link closes at once, and it cannot connect again, whatever else says so, until you allow it. Executions that use it
            come to a halt.
          </p>
        </ConfirmDialog>
      )}
      {open?.dialog === "remove" && (
        <ConfirmDialog
          title={`Remove ${nameOf(open.peer)}?`}
          action="Remove peer"
          onClose={() => setOpen(null)}
          onConfirm={() => client.call("peer.remove", { peer_id: open.peer.peer_id })}
        >
          <p>
            This peer forgets it, its addresses and its grants. To meet again, one side invites the other. To keep it out for good,
            deny it instead.
          </p>
        </ConfirmDialog>
      )}
    </div>
  );
}

export function nameOf(peer: Peer): string {
  return peer.name || format.shortId(peer.peer_id);
}

function roundTrip(ms: number): string {
  return ms < 10 ? ms.toFixed(1) : String(Math.round(ms));
}

function Link({ peer }: { peer: Peer }): JSX.Element {
  if (peer.connected) return <StateBadge state="connected" tone="done" word="Connected" />;
  return (
    <>
      <StateBadge state="disconnected" tone="idle" word="Not connected" />
      {peer.last_failure && <Cut text={peer.last_failure} className="muted small description" />}
    </>
  );
}

function InviteDialog({ onClose }: { onClose: () => void }): JSX.Element {
  const client = useClient();
  const [value, setValue] = useState<Invite | null>(null);
  const now = useNow(1000);
  // Asked for once and by hand, not read: each call makes another invite.
  const make = useAction(async () => {
    setValue(null);
    setValue(await client.call<Invite>("peer.invite"));
  });
  const begin = useRef(make.run);
  useEffect(() => void begin.current(), []);
  const over = value !== null && Date.parse(value.expires_at) <= now;
  return (
    <Dialog
      title="Invite a peer"
      onClose={onClose}
      footer={
        <>
          <Button icon="retry" disabled={make.busy} onClick={() => void make.run()}>
            New invite
          </Button>
          <Button kind="primary" onClick={onClose}>
            Done
          </Button>
        </>
      }
    >
      <ErrorBox error={make.error} onRetry={() => void make.run()} />
      {make.busy && <Loading what="Making an invite" />}
      {value && (
        <>
          <p>Paste this line on the other machine: in its designer under Peers, Join by invite, or in a shell.</p>
          <div className={over ? "invite invite--over" : "invite"}>
            <QrImage text={value.invite} />
            <div className="stack stack--tight invite__side">
              <code className="invite__text" tabIndex={0} aria-label="Invite">
                {value.invite}
              </code>
              <div className="row">
                <CopyButton text={value.invite} label="Copy invite" kind="primary" />
                <CopyButton text={`rnd peer join ${value.invite}`} label="Copy command" />
              </div>
              <p className={over ? "failed-text" : "muted"} role="timer">
                {over ? "This invite has ended. Make a new one." : `For one peer, once. ${format.countdown(value.expires_at, now)} left.`}
              </p>
            </div>
          </div>
        </>
      )}
    </Dialog>
  );
}

/** Dark on light in both schemes: readers expect it so. */
function QrImage({ text }: { text: string }): JSX.Element | null {
  const code = useMemo(() => {
    try {
      return qrCode(text);
    } catch {
      return null;
    }
  }, [text]);
  if (!code) return null;
  const quiet = 4;
  const size = code.modules.length + 2 * quiet;
  return (
    <svg className="qr" viewBox={`${-quiet} ${-quiet} ${size} ${size}`} role="img" aria-label="The invite as a QR code" shapeRendering="crispEdges">
      <rect className="qr__ground" x={-quiet} y={-quiet} width={size} height={size} />
      <path className="qr__dark" d={pathOf(code.modules)} />
    </svg>
  );
}

function JoinDialog({ onClose }: { onClose: () => void }): JSX.Element {
  const client = useClient();
  const toasts = useToasts();
  const [invite, setInvite] = useState("");
  const action = useAction(async () => {
    const line = invite.trim().replace(/^rnd\s+peer\s+join\s+/, "");
    const peer = await client.call<Peer>("peer.join", { invite: line });
    toasts.say(`Joined ${nameOf(peer)}: both sides allow each other now`);
    onClose();
  });
  return (
    <Dialog
      title="Join by invite"
      onClose={onClose}
      onSubmit={() => invite.trim() && void action.run()}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={action.busy} disabled={!invite.trim()}>
            Join
          </Button>
        </>
      }
    >
      <p>Both sides then hold each other as allowed: each sees what the other offers and may order it.</p>
      <Field label="Invite" hint="One line that begins with rnd-invite:">
        <TextArea mono autoFocus rows={4} value={invite} onChange={(event) => setInvite(event.target.value)} />
      </Field>
      {action.error && <ErrorBox error={action.error} />}
    </Dialog>
  );
}

function RenameDialog({ peer, onClose }: { peer: Peer; onClose: () => void }): JSX.Element {
  const client = useClient();
  const [name, setName] = useState(peer.name);
  const action = useAction(async () => {
    await client.call("peer.rename", { peer_id: peer.peer_id, name: name.trim() || null });
    onClose();
  });
  return (
    <Dialog
      title={`Rename ${nameOf(peer)}`}
      onClose={onClose}
      onSubmit={() => void action.run()}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={action.busy}>
            Save
          </Button>
        </>
      }
    >
      <Field label="Name" hint="What it is called here; empty: what it calls itself.">
        <TextInput autoFocus value={name} onChange={(event) => setName(event.target.value)} />
      </Field>
      {action.error && <ErrorBox error={action.error} />}
    </Dialog>
  );
}

function PeerDialog({ peer, onClose }: { peer: Peer; onClose: () => void }): JSX.Element {
  const { online } = useDirectory();
  const reachable = online(peer.peer_id) && peer.state === "allowed";
  const capabilities = useLive(
    async (c) => (reachable ? c.call<NodeCapabilities>("peer.capabilities", { peer_id: peer.peer_id }) : null),
    [],
    [peer.peer_id, reachable],
  );
  return (
    <Dialog wide title={nameOf(peer)} onClose={onClose}>
      <div className="row">
        <StateBadge state={peer.state} />
        <Link peer={{ ...peer, last_failure: "" }} />
      </div>
      <Facts
        facts={[
          [
            "Peer id",
            <span className="row row--whole" key="id">
              <code className="breaks">{peer.peer_id}</code>
              <CopyButton small text={peer.peer_id} what="peer id" />
            </span>,
          ],
          ["Addresses", peer.addresses.length ? peer.addresses.map((each) => <code className="line" key={each}>{each}</code>) : "none known"],
          ["Round trip", peer.rtt_ms === null ? "–" : `${roundTrip(peer.rtt_ms)} ms`],
          ["Last seen", peer.connected ? "now" : <Time key="seen" time={peer.last_seen_at} />],
          ["Known since", <Time key="since" time={peer.created_at} />],
          ...(peer.last_failure ? ([["Last failure", peer.last_failure]] as const) : []),
        ]}
      />
      <section className="stack stack--tight">
        <h3>What it can do</h3>
        {capabilities.loading ? (
          <Loading what="Asking it" />
        ) : capabilities.value ? (
          <Facts facts={capabilityFacts(capabilities.value)} />
        ) : capabilities.error ? (
          <ErrorBox error={capabilities.error} onRetry={capabilities.reload} />
        ) : (
          <p className="muted">Only a connected, allowed peer tells.</p>
        )}
      </section>
    </Dialog>
  );
}
