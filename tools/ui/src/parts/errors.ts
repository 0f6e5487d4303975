// An error of the daemon in words for people: it also speaks to programs.

import type { RpcError } from "../rpc";

// Hints at a list in the answer, which people see, and at methods, which they do not call.
const FOR_PROGRAMS = /data\.problems|^rpc\.discover|matching list method/;

export function errorWords(error: RpcError | Error): { message: string; hint: string } {
  const hint = "hint" in error && !FOR_PROGRAMS.test(error.hint) ? error.hint : "";
  return { message: error.message.replace(/^Invalid params: /, ""), hint };
}
