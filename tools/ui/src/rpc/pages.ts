// List methods answer a page at a time.

import type { Client } from "./client";
import type { Page } from "./types";

const PAGE = 1000;

/** Read every item of a list method, at most `most` (what comes after is cut). */
export async function readAll<T>(
  client: Client,
  method: string,
  params: Record<string, unknown> = {},
  most = 20_000,
): Promise<T[]> {
  const items: T[] = [];
  let after: number | null = null;
  do {
    const page: Page<T> = await client.call<Page<T>>(method, {
      ...params,
      limit: PAGE,
      ...(after === null ? {} : { after_id: after }),
    });
    items.push(...page.items);
    after = page.next_after_id;
  } while (after !== null && items.length < most);
  return items;
}
