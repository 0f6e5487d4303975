// Who is who: this peer and the others by name, read once for the whole page.

import type { JSX, ReactNode } from "react";
import { createContext, useContext, useMemo } from "react";
import { readAll, useLive, useReread } from "../rpc";
import type { NodeStatus, Peer } from "../rpc";
import { shortId } from "./format";

export type KnownPeer = Pick<Peer, "peer_id" | "name" | "state" | "connected">;

// Links come and go without an event.
const REREAD_MS = 10_000;

export interface Directory {
  self: NodeStatus | undefined;
  peers: KnownPeer[];
  /** "this peer", the peer's name, or the beginning and end of its id. */
  nameOf: (peerId: string) => string;
  /** Whether orders reach it now: this peer always, others while connected. */
  online: (peerId: string) => boolean;
}

const DirectoryContext = createContext<Directory>({
  self: undefined,
  peers: [],
  nameOf: shortId,
  online: () => false,
});

export function useDirectory(): Directory {
  return useContext(DirectoryContext);
}

export function DirectoryProvider({ children }: { children: ReactNode }): JSX.Element {
  const self = useLive((client) => client.call<NodeStatus>("node.status"), []).value;
  // No more than is shown: what changes all the time, such as the round trip, would draw every node anew.
  const { value: peers, reload } = useLive(
    async (client) =>
      (await readAll<Peer>(client, "peer.list")).map(({ peer_id, name, state, connected }): KnownPeer => ({ peer_id, name, state, connected })),
    ["peer.updated"],
  );
  useReread(reload, REREAD_MS);
  const directory = useMemo<Directory>(() => {
    const known = new Map((peers ?? []).map((peer) => [peer.peer_id, peer]));
    return {
      self,
      peers: peers ?? [],
      nameOf: (peerId) => (peerId === self?.peer_id ? "this peer" : known.get(peerId)?.name || shortId(peerId)),
      online: (peerId) => peerId === self?.peer_id || known.get(peerId)?.connected === true,
    };
  }, [self, peers]);
  return <DirectoryContext.Provider value={directory}>{children}</DirectoryContext.Provider>;
}

export function PeerName({ peerId }: { peerId: string }): JSX.Element {
  const { nameOf } = useDirectory();
  return (
    <span className="cut" title={peerId}>
      {nameOf(peerId)}
    </span>
  );
}
