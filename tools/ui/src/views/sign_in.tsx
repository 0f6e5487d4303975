import type { FormEvent, JSX } from "react";
import { useState } from "react";
import { Button, Field, Icon, TextInput } from "../parts";

export function SignIn({ refused, onToken }: { refused: boolean; onToken: (token: string) => void }): JSX.Element {
  const [token, setToken] = useState("");
  const [empty, setEmpty] = useState(false);
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    const pasted = token.trim();
    setEmpty(!pasted);
    if (pasted) onToken(pasted);
  };
  const error = empty ? "Paste the token first." : refused ? "The daemon does not take this token. Paste a valid one." : null;
  return (
    <main className="sign-in">
      <form className="card sign-in__card" onSubmit={submit} noValidate>
        <h1>
          <Icon name="workflow" />
          Sign in to rnd
        </h1>
        <p className="muted">
          This page talks to the daemon on this machine. A token shows that you may; it stays in this tab until you close it.
        </p>
        <Field
          label="Token"
          error={error}
          hint={
            <>
              The command <code>rnd open</code> signs you in by itself. Otherwise the token is in the file{" "}
              <code>api_token</code> in the daemon’s data folder.
            </>
          }
        >
          <TextInput
            type="password"
            mono
            value={token}
            autoFocus
            autoComplete="off"
            onChange={(event) => setToken(event.target.value)}
          />
        </Field>
        <Button type="submit" kind="primary">
          Sign in
        </Button>
      </form>
    </main>
  );
}
