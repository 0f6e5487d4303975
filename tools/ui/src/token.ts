// The token lives in this tab's sessionStorage: it ends with the tab, and no other origin sees it.

import { tokenOfHash } from "./routes";

const KEY = "rnd.token";

/** Move the token out of the address, where history and screenshots would keep it. Says whether there was one. */
export function keepTokenOfAddress(): boolean {
  const token = tokenOfHash(location.hash);
  if (token === null) return false;
  keepToken(token);
  history.replaceState(null, "", `${location.pathname}${location.search}#/workflows`);
  return true;
}

export function keptToken(): string | null {
  return sessionStorage.getItem(KEY);
}

export function keepToken(token: string): void {
  sessionStorage.setItem(KEY, token);
}

export function forgetToken(): void {
  sessionStorage.removeItem(KEY);
}
