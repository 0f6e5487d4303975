// What can be put on the canvas: services of this peer and of those it is linked to, grouped by who offers them.

import type { DragEvent, JSX } from "react";
import { useMemo, useState } from "react";
import { Cut, Empty, ErrorBox, Icon, IconButton, StateBadge, TextInput, useDirectory } from "../parts";
import { readAll, useClient, useLive, useReread, useScopeRefusal } from "../rpc";
import type { FoundService, SearchResult, Service } from "../rpc";

export const DRAGGED_SERVICE = "application/x-rnd-service";

/** As much of a service as a node takes over from it. */
export type Offer = Pick<
  FoundService,
  | "service_id"
  | "peer_id"
  | "name"
  | "description"
  | "service_type"
  | "status"
  | "interfaces"
  | "pricing_amount"
  | "pricing_type"
  | "revision"
>;

interface Shelf {
  peerId: string;
  offers: Offer[];
  /** Why its services are not known. */
  away: string;
}

const SEARCH_TIMEOUT_S = 10;
// Other peers do not tell of a change of what they offer.
const REREAD_MS = 30_000;

export function Palette({ onAdd, onClose }: { onAdd: (offer: Offer) => void; onClose: () => void }): JSX.Element {
  const client = useClient();
  const { self, peers, nameOf } = useDirectory();
  const [words, setWords] = useState("");
  const selfId = self?.peer_id;
  const own = useLive((c) => readAll<Service>(c, "service.list"), ["service.updated"], []);
  const linked = peers.filter((peer) => peer.state === "allowed" && peer.connected).map((peer) => peer.peer_id);
  const others = useLive(
    async (): Promise<SearchResult | null> => {
      if (linked.length === 0) return null;
      return client.call<SearchResult>("service.search", {
        peer_ids: linked,
        active_only: false,
        timeout_s: SEARCH_TIMEOUT_S,
      });
    },
    [],
    [linked.join(" ")],
    { keep: true },
  );
  useReread(others.reload, REREAD_MS);

  const shelves = useMemo(() => {
    const found: Shelf[] = [];
    if (selfId) found.push({ peerId: selfId, offers: (own.value ?? []).map((one) => offerOf(one, selfId)), away: "" });
    for (const peer of peers) {
      if (peer.state !== "allowed") continue;
      const reason = others.value?.unreachable.find(({ peer_id }) => peer_id === peer.peer_id)?.reason;
      found.push({
        peerId: peer.peer_id,
        offers: (others.value?.items ?? []).filter(({ peer_id }) => peer_id === peer.peer_id),
        away: peer.connected ? (reason ?? "") : "Offline",
      });
    }
    return found;
  }, [selfId, own.value, others.value, peers]);

  const wanted = words.trim().toLowerCase();
  const matching = shelves.map((shelf) => ({
    ...shelf,
    offers: wanted ? shelf.offers.filter((offer) => matches(offer, wanted)) : shelf.offers,
  }));
  const count = matching.reduce((sum, { offers }) => sum + offers.length, 0);
  const nothingAtAll = shelves.every(({ offers }) => offers.length === 0) && !own.loading && !others.loading;

  return (
    <aside className="palette" aria-label="Services">
      <div className="palette__header">
        <h2>Services</h2>
        <IconButton
          small
          icon="refresh"
          label="Search the peers again"
          onClick={() => {
            own.reload();
            others.reload();
          }}
        />
        <IconButton small icon="close" label="Close the list of services" onClick={onClose} className="only-narrow" />
      </div>
      <div className="palette__filter">
        <TextInput
          type="search"
          aria-label="Filter services"
          placeholder="Filter by name or type"
          value={words}
          onChange={(event) => setWords(event.target.value)}
        />
      </div>
      <div className="palette__list" role="region" aria-label="Services by peer" tabIndex={0}>
        <ErrorBox error={own.error ?? others.error} />
        {nothingAtAll && (
          <Empty icon="service" title="No services yet" actions={<a className="button" href="#/services">Offer a service</a>}>
            Offer one on this peer, or join a peer that does.
          </Empty>
        )}
        {!nothingAtAll && wanted && count === 0 && <p className="palette__none">Nothing matches “{words.trim()}”.</p>}
        {matching.map(
          (shelf) =>
            (shelf.offers.length > 0 || (!wanted && !nothingAtAll)) && (
              <section key={shelf.peerId} className="palette__shelf">
                <h3 className="palette__peer">
                  <span className="cut" title={shelf.peerId}>
                    {shelf.peerId === selfId ? "This peer" : nameOf(shelf.peerId)}
                  </span>
                  {shelf.peerId !== selfId && (
                    <StateBadge
                      state={shelf.away ? "offline" : "online"}
                      word={shelf.away ? "Offline" : "Online"}
                      tone={shelf.away ? "idle" : "done"}
                    />
                  )}
                </h3>
                {shelf.away && shelf.away !== "Offline" && <p className="palette__none">{shelf.away}</p>}
                {shelf.offers.length === 0 && !shelf.away && (
                  <p className="palette__none">{others.loading ? "Searching…" : shelf.peerId === selfId ? "Offers nothing yet." : "Offers nothing to you."}</p>
                )}
                <ul>
                  {shelf.offers.map((offer) => (
                    <Item key={offer.service_id} offer={offer} onAdd={onAdd} />
                  ))}
                </ul>
              </section>
            ),
        )}
      </div>
    </aside>
  );
}

function Item({ offer, onAdd }: { offer: Offer; onAdd: (offer: Offer) => void }): JSX.Element {
  const mayDraw = useScopeRefusal()("operate") === null;
  const onDragStart = (event: DragEvent): void => {
    event.dataTransfer.setData(DRAGGED_SERVICE, JSON.stringify(offer));
    event.dataTransfer.effectAllowed = "copy";
  };
  return (
    <li className="offer" draggable={mayDraw} onDragStart={onDragStart} title={offer.description || offer.name}>
      <span className={`offer__icon kind kind--${offer.service_type}`}>
        <Icon name={offer.service_type} />
      </span>
      <span className="offer__text">
        <Cut text={offer.name} className="offer__name" />
        <span className="offer__about">
          {offer.service_type} · {price(offer)}
          {offer.status !== "ACTIVE" && <StateBadge state={offer.status} />}
        </span>
      </span>
      <IconButton small icon="add" needs="operate" label={`Add ${offer.name}`} onClick={() => onAdd(offer)} />
    </li>
  );
}

/** "Free", "5 PER_JOB". */
export function price({ pricing_amount, pricing_type }: Pick<Offer, "pricing_amount" | "pricing_type">): string {
  if (!pricing_amount) return "Free";
  return `${pricing_amount.toLocaleString("en")} ${pricing_type.toLowerCase().replaceAll("_", " ")}`;
}

function offerOf(service: Service, peerId: string): Offer {
  const { name, description, service_type, status, interfaces, pricing_amount, pricing_type, revision } = service;
  return {
    service_id: service.id,
    peer_id: peerId,
    name,
    description,
    service_type,
    status,
    interfaces,
    pricing_amount,
    pricing_type,
    revision,
  };
}

function matches(offer: Offer, wanted: string): boolean {
  return `${offer.name} ${offer.service_type} ${offer.description}`.toLowerCase().includes(wanted);
}
