import type { JSX, ReactNode } from "react";
import { useState } from "react";
import type { LogStream } from "../rpc";

const STREAMS: readonly LogStream[] = ["stdout", "stderr", "logs"];

/** Which of a job's streams is shown. */
export function LogStreams({
  first,
  render,
}: {
  first: LogStream;
  render: (stream: LogStream) => ReactNode;
}): JSX.Element {
  const [stream, setStream] = useState<LogStream>(first);
  return (
    <div className="stack stack--tight">
      <div className="choices" role="group" aria-label="Stream">
        {STREAMS.map((each) => (
          <button
            key={each}
            type="button"
            className="choice"
            aria-pressed={each === stream}
            onClick={() => setStream(each)}
          >
            {each}
          </button>
        ))}
      </div>
      {render(stream)}
    </div>
  );
}
