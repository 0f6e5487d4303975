// What to do about a job: the daemon says it in commands, the page in what stands on it. Pure.

export interface Advice {
  text: string;
  /** Where it is done. */
  href?: string;
  /** The page has nothing for it. */
  isCommand?: boolean;
  /** What the owner of the job's peer can do there. */
  atOwner?: string;
}

const STATES = /\b(is|are) (PENDING|IDLE|READY|RUNNING|COMPLETED|ERRORED|CANCELLED|FAILED|ACTIVE|INACTIVE)\b/g;

/** The daemon's reason without what it says for programs: states in capitals, numbers of connections, an exit code twice. */
export function plainly(because: string): string {
  return because
    .replace(/ \(connection \d+\)/g, "")
    .replace(STATES, (words) => words.toLowerCase())
    .replace(/^(It failed) \(exit code (-?\d+)\): \w+ exited with code \2\b(; )?/, (_all, failed, code, more) => `${failed} with exit code ${code}${more ? ": " : ""}`);
}

type Place = (executionId: number) => Advice;

const EXECUTION: Place = (id) => ({ text: `See the jobs and transfers of execution ${id}.`, href: `#/executions/${id}` });
const WATCH: Place = () => ({ text: "Nothing: what becomes of it is shown here." });

const PLACES: readonly (readonly [RegExp, Place])[] = [
  [/^rnd logs .*stderr/, () => ({ text: "Read what it wrote: stderr, under Logs." })],
  [/^rnd logs/, () => ({ text: "Read what it writes, under Logs." })],
  [/^rnd watch/, WATCH],
  [/^rnd retry/, () => ({ text: "Press Retry: what has completed is taken over, and the rest runs again." })],
  [/^rnd results/, () => ({ text: "Its files are listed under Results." })],
  [/^rnd (show|transfers)/, EXECUTION],
  [/^rnd rpc job\.(get|interfaces)/, EXECUTION],
  [/^rnd rpc job\.list/, () => ({ text: "See what is running.", href: "#/executions?status=RUNNING" })],
  [/^rnd service set-status/, () => ({ text: "Activate it again, under Services.", href: "#/services" })],
  [/^rnd service/, () => ({ text: "See which services there are.", href: "#/services" })],
  [/^rnd status/, () => ({ text: "See what this machine can do now.", href: "#/node" })],
  [
    /rnd peer allow there/,
    () => ({ text: "Its owner has to let this peer in: Allow there, under Peers, or Invite there and Join here.", href: "#/peers" }),
  ],
  [/^peer\.set_state or peer\.join/, () => ({ text: "Allow that peer, or join it again, under Peers.", href: "#/peers" })],
  [/^rnd /, () => ({ text: "", isCommand: true })],
];

export function adviceOf(told: string, executionId: number): Advice {
  // The executor's own advice is for its own page.
  const [, here = told, there] = /^(.*?)\s+\(its owner, there: (.*)\)$/s.exec(told) ?? [];
  const place = PLACES.find(([pattern]) => pattern.test(here))?.[1];
  const advice = place?.(executionId) ?? { text: here };
  if (advice.isCommand) advice.text = here;
  const theirs = there && !/^rnd (watch|show|rpc job\.get)/.test(there) ? adviceOf(there, executionId) : null;
  return theirs && !theirs.isCommand && theirs.text !== advice.text ? { ...advice, atOwner: theirs.text } : advice;
}
