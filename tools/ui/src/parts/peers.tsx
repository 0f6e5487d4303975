// Who is who: this peer and the others by name, read once for the whole page.

import type { JSX, ReactNode } from "react";
import { createContext, useContext, useMemo } from "react";
import { readAll, useLive } from "../rpc";
import type { NodeStatus, Peer } from "../rpc";
import { shortId } from "./format";

export interface Directory {
  self: NodeStatus | undefined;
  peers: Peer[];
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
  const peers = useLive((client) => readAll<Peer>(client, "peer.list"), ["peer.updated"]).value;
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
