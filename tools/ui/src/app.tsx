// The frame of the page: who is signed in, where the page is, whether the daemon is there.

import type { JSX } from "react";
import { useEffect, useRef, useState, useSyncExternalStore } from "react";
import { WorkflowPage } from "./canvas";
import { Button, DirectoryProvider, Empty, Icon, IconButton, StateBadge, ToastProvider, useDirectory, useNow } from "./parts";
import { Client, ClientContext, useClient, useConnection } from "./rpc";
import { parseRoute } from "./routes";
import type { Route } from "./routes";
import { forgetToken, keepToken, keepTokenOfAddress, keptToken } from "./token";
import { ExecutionPage } from "./views/execution";
import { ExecutionsPage } from "./views/executions";
import { NodePage } from "./views/node";
import { PeersPage } from "./views/peers";
import { ServicesPage } from "./views/services";
import { SignIn } from "./views/sign_in";
import { WorkflowsPage } from "./views/workflows";

const LINKS = [
  { href: "#/workflows", label: "Workflows", views: ["workflows", "workflow"] },
  { href: "#/executions", label: "Executions", views: ["executions", "execution"] },
  { href: "#/services", label: "Services", views: ["services"] },
  { href: "#/peers", label: "Peers", views: ["peers"] },
  { href: "#/node", label: "This node", views: ["node"] },
] as const;

export function App(): JSX.Element {
  const [client, setClient] = useState<Client | null>(() => {
    const token = keptToken();
    return token ? new Client(token) : null;
  });
  const [refused, setRefused] = useState(false);

  const signIn = (token: string): void => {
    keepToken(token);
    setRefused(false);
    setClient((before) => {
      before?.close();
      return new Client(token);
    });
  };
  const signOut = (): void => {
    forgetToken();
    setRefused(false);
    setClient((before) => {
      before?.close();
      return null;
    });
  };

  useEffect(() => {
    const onHash = (): void => {
      if (keepTokenOfAddress()) signIn(keptToken() ?? "");
    };
    window.addEventListener("hashchange", onHash);
    return () => window.removeEventListener("hashchange", onHash);
  });

  useEffect(() => {
    if (!client) return undefined;
    const look = (): void => {
      if (client.connection.state !== "refused") return;
      forgetToken();
      setRefused(true);
      setClient(null);
    };
    look();
    return client.onState(look);
  }, [client]);

  if (!client) return <SignIn refused={refused} onToken={signIn} />;
  return (
    <ClientContext.Provider value={client} key={client.token}>
      <ToastProvider>
        <DirectoryProvider>
          <Frame onSignOut={signOut} />
        </DirectoryProvider>
      </ToastProvider>
    </ClientContext.Provider>
  );
}

function useRoute(): Route {
  const hash = useSyncExternalStore(
    (changed) => {
      window.addEventListener("hashchange", changed);
      return () => window.removeEventListener("hashchange", changed);
    },
    () => location.hash,
  );
  return parseRoute(hash);
}

function Frame({ onSignOut }: { onSignOut: () => void }): JSX.Element {
  const route = useRoute();
  const main = useRef<HTMLElement>(null);
  const { self } = useDirectory();
  const place = placeOf(route);
  const first = useRef(true);
  const title = LINKS.find(({ views }) => (views as readonly string[]).includes(route.view))?.label ?? "Not found";

  useEffect(() => {
    document.title = self ? `${title} · ${self.name} · rnd` : `${title} · rnd`;
  }, [title, self]);

  useEffect(() => {
    // A new view is read from its beginning; the first one is where the browser starts anyway.
    if (first.current) first.current = false;
    else main.current?.focus();
    main.current?.scrollTo(0, 0);
  }, [place]);

  return (
    <div className="frame">
      <header className="topbar">
        <a
          className="skip"
          href={location.hash || "#/workflows"}
          onClick={(event) => {
            event.preventDefault();
            main.current?.focus();
          }}
        >
          Skip to content
        </a>
        <a className="topbar__brand" href="#/workflows" aria-label="rnd, all workflows">
          <Icon name="workflow" />
          rnd
        </a>
        <nav className="topbar__nav" aria-label="Views">
          {LINKS.map(({ href, label, views }) => (
            <a
              key={href}
              className="topbar__link"
              href={href}
              aria-current={(views as readonly string[]).includes(route.view) ? "page" : undefined}
            >
              {label}
            </a>
          ))}
        </nav>
        <Connection />
        <IconButton icon="signout" label="Sign out" onClick={onSignOut} />
      </header>
      <OfflineBanner />
      <main
        ref={main}
        className={`main ${route.view === "workflow" ? "main--whole" : ""}`}
        tabIndex={-1}
        aria-label={title}
      >
        <View route={route} />
      </main>
    </div>
  );
}

/** What names a view apart from its filters. */
function placeOf(route: Route): string {
  if (route.view === "workflow") return `workflow ${route.workflowId}`;
  if (route.view === "execution") return `execution ${route.executionId}`;
  return route.view;
}

function View({ route }: { route: Route }): JSX.Element {
  switch (route.view) {
    case "workflows":
      return <WorkflowsPage />;
    case "workflow":
      return <WorkflowPage key={route.workflowId} workflowId={route.workflowId} />;
    case "executions":
      return <ExecutionsPage workflowId={route.workflowId} status={route.status} />;
    case "execution":
      return <ExecutionPage key={route.executionId} executionId={route.executionId} />;
    case "services":
      return <ServicesPage />;
    case "peers":
      return <PeersPage />;
    case "node":
      return <NodePage />;
    case "unknown":
      return (
        <div className="page">
          <Empty
            heading
            icon="help"
            title="There is no such page"
            actions={
              <a className="button" href="#/workflows">
                All workflows
              </a>
            }
          >
            The address names nothing that this designer can show.
          </Empty>
        </div>
      );
  }
}

function Connection(): JSX.Element {
  const { state } = useConnection();
  const { self } = useDirectory();
  const { scope } = useClient();
  const word = state === "online" ? "Online" : state === "connecting" ? "Connecting" : "Offline";
  const tone = state === "online" ? "done" : state === "connecting" ? "waiting" : "failed";
  return (
    <div className="topbar__node">
      {self && (
        <span className="cut muted topbar__name" title={`${self.name}\n${self.peer_id}`}>
          {self.name}
        </span>
      )}
      {state === "online" && scope !== "admin" && (
        <span className="muted small nowrap" title={`The token's scope is ${scope ?? "unknown"}: other actions are refused.`}>
          {scope === "read" ? "read only" : scope}
        </span>
      )}
      <StateBadge state={state} word={word} tone={tone} />
    </div>
  );
}

/** Tells that the daemon is away, what that means, and when the next attempt is. */
function OfflineBanner(): JSX.Element | null {
  const connection = useConnection();
  const [away, setAway] = useState(false);
  useEffect(() => {
    if (connection.state === "offline") setAway(true);
    if (connection.state === "online") setAway(false);
  }, [connection.state]);
  if (!away) return null;
  return <Banner retryAt={connection.retryAt} />;
}

function Banner({ retryAt }: { retryAt: number | null }): JSX.Element {
  const now = useNow(500);
  return (
    <ClientContext.Consumer>
      {(client) => (
        <div className="banner" role="alert">
          <strong>No connection to the daemon.</strong>
          <span>What you see may be old. What you draw is saved once it is back; nothing else can be changed until then.</span>
          <span aria-live="off" className="nowrap">
            {retryAt ? `Next attempt in ${Math.max(0, Math.ceil((retryAt - now) / 1000))} s` : "Connecting…"}
          </span>
          <Button small onClick={() => client?.retryNow()} disabled={!retryAt}>
            Try now
          </Button>
        </div>
      )}
    </ClientContext.Consumer>
  );
}
