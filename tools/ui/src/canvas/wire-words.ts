// What a wire says of the run that is shown.

import type { WireRun } from "../graph/run";
import * as format from "../parts/format";
import { stateWord } from "../parts/states";

/** Above the wire and below it: "1.2 MB of 4 MB" and "300 KB/s", "Arrived" and "4 MB". */
export function runWords(run: WireRun): [string, string] {
  const { status, bytes_done, size_bytes, rate_bytes_s } = run;
  if (status === "ACTIVE") {
    const far = size_bytes > 0 ? `${format.bytes(bytes_done)} of ${format.bytes(size_bytes)}` : format.bytes(bytes_done);
    return rate_bytes_s ? [`Active · ${format.rate(rate_bytes_s)}`, far] : ["Active", far];
  }
  if (status === "COMPLETED") return [stateWord("ARRIVED"), format.bytes(Math.max(bytes_done, size_bytes))];
  if (status === "PENDING" && run.attempts > 0) return ["Waiting", "to try again"];
  return [stateWord(status), ""];
}
