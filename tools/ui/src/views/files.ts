// Bytes to and from the daemon beside JSON-RPC: uploads, downloads, previews.

import { RpcError } from "../rpc";
import type { Client, ResultFile, Ticket, Upload } from "../rpc";

/** Send a file ahead of the call that uses it as `upload:NAME`. Answers how it is called there. */
export function upload(
  client: Client,
  file: File,
  name: string,
  onProgress: (sent: number, total: number) => void,
  signal?: AbortSignal,
): Promise<Upload> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not tell how much has been sent
    request.open("PUT", `/upload/${encodeURIComponent(name)}`);
    request.setRequestHeader("Authorization", `Bearer ${client.token}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    request.onload = () => {
      const answer = parse(request.responseText);
      if (request.status === 201) resolve(answer as unknown as Upload);
      else reject(refusal(`The daemon did not take ${file.name}`, request.status, answer));
    };
    request.onerror = () =>
      reject(new RpcError(0, `${file.name} was not sent: the connection broke`, { hint: "Choose the file again." }));
    request.onabort = () => reject(new RpcError(0, `${file.name} was not sent: you stopped it`));
    signal?.throwIfAborted();
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

/** The beginning of a result, at most `most` bytes. */
export async function readResult(client: Client, file: ResultFile, most: number): Promise<Uint8Array> {
  if (file.size_bytes === 0) return new Uint8Array();
  const response = await fetch(file.url, {
    headers: { Authorization: `Bearer ${client.token}`, Range: `bytes=0-${Math.min(most, file.size_bytes) - 1}` },
    credentials: "omit",
  });
  if (!response.ok) {
    throw refusal(`${file.path} cannot be read`, response.status, parse(await response.text()));
  }
  return new Uint8Array(await response.arrayBuffer());
}

/** Let the browser save a result: it goes to disk as it comes, whatever its size. */
export async function downloadResult(client: Client, executionId: number, file: ResultFile): Promise<void> {
  const ticket = await client.call<Ticket>("execution.ticket", {
    execution_id: executionId,
    node_id: file.node_id,
    connection_id: file.connection_id,
    path: file.path,
  });
  follow(ticket.url, file.path.split("/").at(-1) ?? "result");
}

/** Let the browser save a text that this page made. */
export function saveText(name: string, text: string, type = "application/json"): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  follow(url, name);
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function follow(url: string, name: string): void {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.rel = "noopener";
  document.body.append(link);
  link.click();
  link.remove();
}

function parse(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return {};
  }
}

function refusal(what: string, status: number, answer: Record<string, unknown>): RpcError {
  const message = typeof answer.message === "string" ? answer.message : `${what} (HTTP ${status})`;
  return new RpcError(status, message, answer);
}
