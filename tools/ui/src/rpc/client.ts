// One websocket to the daemon: calls with answers, events with listeners, and a connection that comes back by itself.

export interface Problem {
  check: string;
  message: string;
  node_id?: number;
  connection_id?: number;
  place?: string;
}

/** What a call was answered with instead of a result. `error` is the stable word of the contract, `hint` what to do next. */
export class RpcError extends Error {
  readonly code: number;
  readonly error: string;
  readonly hint: string;
  readonly problems: Problem[];
  readonly data: Record<string, unknown>;

  constructor(code: number, message: string, data: Record<string, unknown> = {}) {
    super(message);
    this.name = "RpcError";
    this.code = code;
    this.data = data;
    this.error = typeof data.error === "string" ? data.error : "";
    this.hint = typeof data.hint === "string" ? data.hint : "";
    this.problems = Array.isArray(data.problems) ? (data.problems as Problem[]) : [];
  }
}

/** The word of an `RpcError` that this page itself raised: the daemon was not there to answer. */
export const OFFLINE = "OFFLINE";

export interface DaemonEvent {
  seq: number;
  time: string | null;
  type: string;
  data: Record<string, unknown>;
}

export type EventListener = (event: DaemonEvent) => void;

/** `refused`: the token is not valid, so no further attempt is made. `closed`: this page ended it. */
export type ConnectionState = "connecting" | "online" | "offline" | "refused" | "closed";

export interface StateChange {
  state: ConnectionState;
  /** When the next attempt is made (milliseconds since 1970), where the state is `offline`. */
  retryAt: number | null;
}

/** As much of a WebSocket as the client needs. */
export interface Socket {
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  readonly readyState: number;
  send(text: string): void;
  close(code?: number): void;
}

export interface ClientOptions {
  url?: string;
  connect?: (url: string) => Socket;
}

interface Pending {
  method: string;
  resolve: (value: unknown) => void;
  reject: (error: RpcError) => void;
}

interface Answer {
  id?: number | null;
  result?: unknown;
  error?: { code: number; message: string; data?: Record<string, unknown> };
  method?: string;
  params?: DaemonEvent & { subscription?: number };
}

const OPEN = 1; // of a socket's readyState
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5_000;
const LOGIN_REFUSED = 1600;
const SETTLED_MS = 5_000;
// A proxy or a stopped daemon can hold the socket open and say nothing.
const OPEN_WITHIN_MS = 10_000;
const ALIVE_EVERY_MS = 20_000;

/** Every call and every event of this page goes through one of these. */
export class Client {
  readonly token: string;
  /** What the token may do, once the daemon has said so. */
  scope: "read" | "operate" | "admin" | null = null;

  private readonly url: string;
  private readonly makeSocket: (url: string) => Socket;
  private socket: Socket | null = null;
  private state: StateChange = { state: "connecting", retryAt: null };
  private readonly stateListeners = new Set<(change: StateChange) => void>();
  private readonly pending = new Map<number, Pending>();
  private waiting: string[] = [];
  private nextId = 1;
  private readonly listeners = new Set<{ types: ReadonlySet<string>; listener: EventListener }>();
  private lastSeq: number | null = null;
  private pauseMs = FIRST_PAUSE_MS;
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private openTimer: ReturnType<typeof setTimeout> | undefined;
  private aliveTimer: ReturnType<typeof setInterval> | undefined;

  constructor(token: string, options: ClientOptions = {}) {
    this.token = token;
    this.url = options.url ?? websocketUrl();
    this.makeSocket = options.connect ?? ((url) => new WebSocket(url) as Socket);
    this.open();
  }

  get online(): boolean {
    return this.state.state === "online";
  }

  get connection(): StateChange {
    return this.state;
  }

  /** Call a method. While the connection is being made the call waits; when it breaks the call fails with `OFFLINE`. */
  call<T>(method: string, params: Record<string, unknown> = {}): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      // A socket that the daemon is closing takes no more calls, though its end has not been told yet.
      if (this.state.state === "online" && this.socket && this.socket.readyState !== OPEN) this.drop(this.socket);
      const { state } = this.state;
      if (state !== "online" && state !== "connecting") {
        reject(offlineError(method, state));
        return;
      }
      const text = this.register(method, params, resolve as (value: unknown) => void, reject);
      if (state === "online" && this.socket) this.socket.send(text);
      else this.waiting.push(text);
    });
  }

  /** Hear of events of these types (none: of all), and of `gap`: events were lost, so read anew. Returns how to stop. */
  subscribe(types: readonly string[], listener: EventListener): () => void {
    const entry = { types: new Set(types), listener };
    this.listeners.add(entry);
    return () => {
      this.listeners.delete(entry);
    };
  }

  /** Hear of every change of the connection. Returns how to stop. */
  onState(listener: (change: StateChange) => void): () => void {
    this.stateListeners.add(listener);
    return () => {
      this.stateListeners.delete(listener);
    };
  }

  /** Try again now, where the next attempt is still to come. */
  retryNow(): void {
    if (this.state.state === "offline") this.open();
  }

  close(): void {
    this.lose("closed", null);
  }

  // ---------------------------------------------------------------- the connection

  private open(): void {
    clearTimeout(this.retryTimer);
    this.change({ state: "connecting", retryAt: null });
    let socket: Socket;
    try {
      socket = this.makeSocket(this.url);
    } catch {
      this.pauseThenRetry();
      return;
    }
    this.socket = socket;
    this.openTimer = setTimeout(() => this.drop(socket), OPEN_WITHIN_MS);
    socket.onopen = () => {
      if (this.socket === socket) this.logIn(socket);
    };
    socket.onmessage = (event) => {
      if (this.socket === socket && typeof event.data === "string") this.take(event.data);
    };
    socket.onclose = () => {
      if (this.socket === socket) this.pauseThenRetry();
    };
  }

  private logIn(socket: Socket): void {
    this.send(socket, "auth.login", { token: this.token }).then(
      (answer) => {
        this.scope = (answer as { scope: "read" | "operate" | "admin" }).scope;
        const after = this.lastSeq === null ? {} : { after_seq: this.lastSeq };
        // Sent ahead of every waiting call: what a call reads is never older than what events then tell of.
        this.send(socket, "events.subscribe", after).then(
          (subscribed) => this.standAt((subscribed as { seq: number }).seq),
          () => this.drop(socket),
        );
        this.settle(socket);
      },
      (error: RpcError) => {
        if (error.code === LOGIN_REFUSED) this.lose("refused", null);
      },
    );
  }

  private settle(socket: Socket): void {
    clearTimeout(this.openTimer);
    if (this.socket !== socket) return; // it went as the subscription was to be sent
    for (const text of this.waiting) socket.send(text);
    this.waiting = [];
    this.change({ state: "online", retryAt: null });
    const since = Date.now();
    let heard = true;
    this.aliveTimer = setInterval(() => {
      if (!heard) {
        this.drop(socket);
        return;
      }
      heard = false;
      if (Date.now() - since > SETTLED_MS) this.pauseMs = FIRST_PAUSE_MS;
      this.send(socket, "node.status", {}).then(
        () => (heard = true),
        () => (heard = true),
      );
    }, ALIVE_EVERY_MS);
  }

  private drop(socket: Socket): void {
    if (this.socket !== socket) return;
    this.pauseThenRetry();
    socket.close();
  }

  private pauseThenRetry(): void {
    const pauseMs = this.pauseMs;
    this.pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    this.lose("offline", Date.now() + pauseMs);
    this.retryTimer = setTimeout(() => this.open(), pauseMs);
  }

  private lose(state: ConnectionState, retryAt: number | null): void {
    clearTimeout(this.retryTimer);
    clearTimeout(this.openTimer);
    clearInterval(this.aliveTimer);
    const socket = this.socket;
    this.socket = null;
    if (state === "closed" || state === "refused") socket?.close();
    this.waiting = [];
    const lost = [...this.pending.values()];
    this.pending.clear();
    this.change({ state, retryAt });
    for (const call of lost) call.reject(offlineError(call.method, state));
  }

  private change(change: StateChange): void {
    this.state = change;
    for (const listener of [...this.stateListeners]) listener(change);
  }

  // ---------------------------------------------------------------- messages

  private send(socket: Socket, method: string, params: Record<string, unknown>): Promise<unknown> {
    if (socket.readyState !== OPEN) {
      this.drop(socket);
      return Promise.reject(offlineError(method, "offline"));
    }
    return new Promise((resolve, reject) => socket.send(this.register(method, params, resolve, reject)));
  }

  private register(
    method: string,
    params: Record<string, unknown>,
    resolve: (value: unknown) => void,
    reject: (error: RpcError) => void,
  ): string {
    const id = this.nextId++;
    this.pending.set(id, { method, resolve, reject });
    return JSON.stringify({ jsonrpc: "2.0", id, method, params });
  }

  private take(text: string): void {
    let answer: Answer;
    try {
      answer = JSON.parse(text) as Answer;
    } catch {
      return;
    }
    if (answer.method === "event" && answer.params) {
      this.tell(answer.params);
      return;
    }
    const call = typeof answer.id === "number" ? this.pending.get(answer.id) : undefined;
    if (!call || typeof answer.id !== "number") return;
    this.pending.delete(answer.id);
    if (answer.error) call.reject(new RpcError(answer.error.code, answer.error.message, answer.error.data));
    else call.resolve(answer.result);
  }

  private tell(event: DaemonEvent): void {
    const gap = event.type === "events.dropped";
    const told = gap ? { ...event, type: "gap" } : event;
    if (gap) this.lastSeq = event.seq;
    else this.standAt(event.seq);
    for (const { types, listener } of [...this.listeners]) {
      if (gap || types.size === 0 || types.has(told.type)) listener(told);
    }
  }

  private standAt(seq: number): void {
    if (typeof seq === "number" && seq > (this.lastSeq ?? -1)) this.lastSeq = seq;
  }
}

function offlineError(method: string, state: ConnectionState): RpcError {
  if (state === "refused") {
    return new RpcError(LOGIN_REFUSED, "The token is not valid any more", {
      error: "PERMISSION_DENIED",
      hint: "Sign in again with a valid token.",
    });
  }
  return new RpcError(0, `No connection to the daemon: ${method} was not answered`, {
    error: OFFLINE,
    hint: "The page reconnects by itself; look whether it was done, and try again.",
  });
}

function websocketUrl(): string {
  return `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/ws`;
}
