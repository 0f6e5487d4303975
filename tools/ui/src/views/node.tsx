import type { JSX } from "react";
import { useState } from "react";
import { Card, CopyButton, Empty, ErrorBox, Facts, Loading, PageHeader, StateBadge, Time, format, useNow } from "../parts";
import { useClient, useLive, useReread } from "../rpc";
import type { NodeCapabilities, NodeStatus } from "../rpc";
import { capabilityFacts } from "./capabilities";
import { TokensCard } from "./tokens";

const REREAD_MS = 10_000;

export function NodePage(): JSX.Element {
  const client = useClient();
  const status = useLive((c) => c.call<NodeStatus>("node.status"), ["execution.updated", "job.updated", "peer.updated"], [], {
    gatherMs: 1000,
  });
  const capabilities = useLive((c) => c.call<NodeCapabilities>("node.capabilities"), []);
  useReread(status.reload, REREAD_MS); // free disk changes without an event
  const { value } = status;
  return (
    <div className="page">
      <PageHeader title={value?.name || "This node"} about="The daemon behind this page, and the machine that it runs on." />
      <ErrorBox error={status.error} onRetry={status.reload} />
      {status.loading && <Loading what="Asking the daemon" />}
      {value && (
        <>
          <section className="card stats" aria-label="At a glance">
            <Glance name="Peers connected" value={String(value.peers_connected)} href="#/peers" />
            <Glance name="Transfers under way" value={String(value.transfers_active)} />
            <Glance name="Free disk" value={format.bytes(value.disk_free_bytes)} />
            <Uptime startedAt={value.started_at} />
          </section>
          <div className="grid-2">
            <Card title="Daemon">
              <div className="card__body">
                <Facts
                  facts={[
                    ["Version", value.version],
                    ["Started", <Time key="started" time={value.started_at} />],
                    [
                      "Peer id",
                      <span className="row row--whole" key="id">
                        <code className="breaks">{value.peer_id}</code>
                        <CopyButton small text={value.peer_id} what="peer id" />
                      </span>,
                    ],
                    [
                      "For peers",
                      value.peer_addresses.length
                        ? value.peer_addresses.map((address) => (
                            <code className="line" key={address}>
                              {address}
                            </code>
                          ))
                        : "listens nowhere",
                    ],
                    ["API", <code key="api">{value.api.url || "no TCP listener"}</code>],
                    ["Socket", <code key="socket">{value.api.socket}</code>],
                  ]}
                />
              </div>
            </Card>
            <Card title="Machine">
              <div className="card__body">
                {capabilities.loading ? (
                  <Loading />
                ) : capabilities.value ? (
                  <Facts facts={capabilityFacts(capabilities.value)} />
                ) : (
                  <ErrorBox error={capabilities.error} onRetry={capabilities.reload} />
                )}
              </div>
            </Card>
          </div>
          <div className="grid-2">
            <Card title="Jobs run here">
              <Counts counts={value.jobs} empty="No job has run on this machine." />
            </Card>
            <Card title="Executions ordered here">
              <Counts counts={value.executions} empty="Nothing has been executed from here." link="#/executions?status=" />
            </Card>
          </div>
        </>
      )}
      {client.scope === "admin" && <TokensCard />}
    </div>
  );
}

function Glance({ name, value, href }: { name: string; value: string; href?: string }): JSX.Element {
  return (
    <div className="stat">
      <span className="muted small">{name}</span>
      <strong>{href ? <a href={href}>{value}</a> : value}</strong>
    </div>
  );
}

function Uptime({ startedAt }: { startedAt: string }): JSX.Element {
  const now = useNow(1000);
  const seconds = Math.floor(format.secondsBetween(startedAt, null, now) ?? 0);
  const [shown] = useState(() => format.absolute(startedAt));
  return (
    <div className="stat" title={shown}>
      <span className="muted small">Up for</span>
      <strong>{format.duration(seconds)}</strong>
    </div>
  );
}

function Counts({ counts, empty, link }: { counts: Record<string, number>; empty: string; link?: string }): JSX.Element {
  const told = Object.entries(counts).filter(([, count]) => count > 0);
  if (!told.length) return <Empty title="None">{empty}</Empty>;
  return (
    <ul className="counts card__body">
      {told.map(([state, count]) => (
        <li key={state}>
          <StateBadge state={state} />
          {link ? <a href={`${link}${state}`}>{count}</a> : <span>{count}</span>}
        </li>
      ))}
    </ul>
  );
}
