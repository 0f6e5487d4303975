// What a job said, and why it is where it is. Both are for any view that shows jobs.

import type { JSX } from "react";
import { useEffect, useLayoutEffect, useRef, useState } from "react";
import { Checkbox, Dialog, ErrorBox, Icon, Loading, Segments, StateBadge } from "../parts";
import { OFFLINE, asRpcError, useClient, useLive } from "../rpc";
import type { Explanation, JobLogs, LogStream, RpcError } from "../rpc";
import { adviceOf, plainly } from "./advice";
import { offsetNearEnd } from "./log_tail";

interface OfJob {
  executionId: number;
  nodeId: number;
  name: string;
  onClose: () => void;
}

const FOLLOW_MS = 1000;
const PIECE_BYTES = 65_536;
// More than this is not read from its beginning: the end of a stream is what people look for.
const LONG_BYTES = 4 * PIECE_BYTES;
const PROBE_BYTES = 16;
const KEPT_CHARS = 1_000_000;
const STREAMS: { value: LogStream; label: string }[] = [
  { value: "stdout", label: "stdout" },
  { value: "stderr", label: "stderr" },
  { value: "logs", label: "logs" },
];

/** The captured streams of a job, here or on another peer, followed until it has ended. */
export function LogsDialog({ executionId, nodeId, name, onClose }: OfJob): JSX.Element {
  const [stream, setStream] = useState<LogStream>("stdout");
  const [follow, setFollow] = useState(true);
  return (
    <Dialog title={`Logs of ${name}`} onClose={onClose} wide>
      <div className="row row--spread logs__choices">
        <Segments label="Stream" name="stream" value={stream} choices={STREAMS} onChange={(value) => setStream(value as LogStream)} />
        <Checkbox label="Follow" checked={follow} onChange={(event) => setFollow(event.target.checked)} />
      </div>
      <LogText key={stream} executionId={executionId} nodeId={nodeId} stream={stream} follow={follow} />
    </Dialog>
  );
}

/** One stream; hostile text, so it is only ever text. */
export function LogText({
  executionId,
  nodeId,
  stream,
  follow,
}: {
  executionId: number;
  nodeId: number;
  stream: LogStream;
  follow: boolean;
}): JSX.Element {
  const client = useClient();
  const [text, setText] = useState("");
  const [cut, setCut] = useState(false);
  const [eof, setEof] = useState(false);
  const [read, setRead] = useState(false);
  const [error, setError] = useState<RpcError | null>(null);
  const box = useRef<HTMLPreElement>(null);
  const atEnd = useRef(true);

  useEffect(() => {
    let wanted = true;
    let offset = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let looked = false;
    const piece = (from: number, most: number): Promise<JobLogs> =>
      client.call<JobLogs>("job.logs", { execution_id: executionId, node_id: nodeId, stream, offset: from, limit_bytes: most });
    const step = async (): Promise<void> => {
      let pause = FOLLOW_MS;
      try {
        if (offset >= LONG_BYTES && !looked) {
          looked = true;
          const there = async (at: number): Promise<boolean> => wanted && (await piece(at, PROBE_BYTES)).data !== "";
          const end = await offsetNearEnd(there, offset, LONG_BYTES);
          if (!wanted) return;
          if (end > offset) {
            offset = end;
            setText("");
            setCut(true);
          }
        }
        const logs = await piece(offset, PIECE_BYTES);
        if (!wanted) return;
        setError(null);
        setRead(true);
        if (logs.data) {
          setText((before) => {
            const whole = before + logs.data;
            if (whole.length > KEPT_CHARS) setCut(true);
            return whole.slice(-KEPT_CHARS);
          });
        }
        if (logs.next_offset > offset) pause = 0;
        offset = logs.next_offset;
        setEof(logs.eof);
        if (logs.eof) return;
      } catch (fault) {
        if (!wanted) return;
        const wrong = asRpcError(fault);
        if (wrong.error !== OFFLINE) setError(wrong);
      }
      timer = setTimeout(() => void step(), pause);
    };
    void step();
    return () => {
      wanted = false;
      clearTimeout(timer);
    };
  }, [client, executionId, nodeId, stream]);

  useLayoutEffect(() => {
    if (follow && atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [text, follow]);

  const state = eof ? "the whole of it" : "still being written";
  return (
    <div className="stack stack--tight">
      {error && <ErrorBox error={error} />}
      {cut && <p className="muted small">The stream is long: only its end is shown. The command rnd logs gives all of it.</p>}
      <pre
        ref={box}
        className="logs"
        tabIndex={0}
        role="log"
        aria-label={`${stream}, ${state}`}
        onScroll={(event) => {
          const { scrollHeight, scrollTop, clientHeight } = event.currentTarget;
          atEnd.current = scrollHeight - scrollTop - clientHeight < 24;
        }}
      >
        {text}
      </pre>
      <p className="muted small" role="status">
        {!read && !error ? "Reading…" : text ? (eof ? "End of the stream." : "Live: more may come.") : eof ? "It wrote nothing here." : "Nothing yet."}
      </p>
    </div>
  );
}

/** Why a job is not finished, or how it ended: each check with its evidence, and what to do. */
export function ExplainDialog({ executionId, nodeId, name, onClose }: OfJob): JSX.Element {
  return (
    <Dialog title={`Explain ${name}`} onClose={onClose} wide>
      <ExplainText executionId={executionId} nodeId={nodeId} />
    </Dialog>
  );
}

export function ExplainText({ executionId, nodeId }: { executionId: number; nodeId: number }): JSX.Element {
  const explained = useLive(
    (c) => c.call<Explanation>("job.explain", { execution_id: executionId, node_id: nodeId }),
    ["job.updated", "execution.updated", "peer.updated"],
    [executionId, nodeId],
    { concerns: ({ type, data }) => type === "peer.updated" || data.execution_id === executionId, gatherMs: 400 },
  );
  if (explained.loading) return <Loading what="Looking into it" />;
  const { value } = explained;
  if (!value) return <ErrorBox error={explained.error} onRetry={explained.reload} />;
  const advice = adviceOf(value.do, executionId);
  return (
    <div className="stack">
      <div className="row">
        <StateBadge state={value.status} />
        <strong className="explain__because">{plainly(value.because)}</strong>
      </div>
      {value.do && value.status !== "COMPLETED" && (
        <div className="note">
          <div>
            <strong>{advice.isCommand ? "In a shell: " : "What to do: "}</strong>
            {advice.isCommand ? (
              <code>{advice.text}</code>
            ) : advice.href && advice.href !== location.hash ? (
              <a href={advice.href}>{advice.text}</a>
            ) : (
              advice.text
            )}
          </div>
          {advice.atOwner && (
            <div>
              <strong>Its owner, there: </strong>
              {advice.atOwner}
            </div>
          )}
        </div>
      )}
      {value.checks.length > 0 && (
        <details className="more">
          <summary>Details</summary>
          <ul className="checks">
            {value.checks.map((check) => (
              <li key={check.check} className="check-row">
                <CheckMark ok={check.ok} />
                <div>
                  {check.check.replaceAll("_", " ")}
                  {check.evidence && <div className="muted small">{check.evidence}</div>}
                </div>
              </li>
            ))}
          </ul>
        </details>
      )}
      <ErrorBox error={explained.error} onRetry={explained.reload} />
    </div>
  );
}

function CheckMark({ ok }: { ok: boolean | null }): JSX.Element {
  if (ok === null) return <span className="check-mark muted">not known</span>;
  return ok ? (
    <span className="check-mark check-mark--ok">
      <Icon name="check" />
      fine
    </span>
  ) : (
    <span className="check-mark check-mark--wrong">
      <Icon name="close" />
      not ok
    </span>
  );
}
