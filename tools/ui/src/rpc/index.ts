export { Client, OFFLINE, RpcError } from "./client";
export type { ConnectionState, DaemonEvent, EventListener, Problem, StateChange } from "./client";
export { ClientContext, asRpcError, useClient, useConnection, useLive, useReread, useScopeRefusal } from "./hooks";
export type { Live, LiveOptions } from "./hooks";
export { readAll } from "./pages";
export type * from "./types";
