import type { InputHTMLAttributes, JSX, ReactNode, SelectHTMLAttributes, TextareaHTMLAttributes } from "react";
import { createContext, useContext, useId } from "react";
import { useScopeRefusal } from "../rpc";
import type { Scope } from "../rpc";

interface Described {
  id: string;
  describedBy: string | undefined;
  invalid: boolean;
}

const FieldContext = createContext<Described | null>(null);

/** A label, a control, a hint and what is wrong with it, tied together for those who cannot see that they are. */
export function Field({
  label,
  hint,
  error,
  optional = false,
  children,
}: {
  label: ReactNode;
  hint?: ReactNode;
  error?: string | null | undefined;
  optional?: boolean;
  children: ReactNode;
}): JSX.Element {
  const id = useId();
  const hintId = hint ? `${id}-hint` : "";
  const errorId = error ? `${id}-error` : "";
  const describedBy = [hintId, errorId].filter(Boolean).join(" ") || undefined;
  return (
    <div className="field">
      <label className="field__label" htmlFor={id}>
        {label}
        {optional && <span className="field__optional"> (optional)</span>}
      </label>
      <FieldContext.Provider value={{ id, describedBy, invalid: Boolean(error) }}>{children}</FieldContext.Provider>
      {hint && (
        <div className="field__hint" id={hintId}>
          {hint}
        </div>
      )}
      {error && (
        <div className="field__error" id={errorId}>
          {error}
        </div>
      )}
    </div>
  );
}

/** Fields that need a scope: greyed out, with the reason above them, where the page's token does not have it. */
export function Guarded({ needs, children }: { needs: Scope; children: ReactNode }): JSX.Element {
  const refused = useScopeRefusal()(needs);
  return (
    <fieldset role="presentation" className="field guarded" disabled={refused !== null} title={refused ?? undefined}>
      {refused && <p className="note">{refused}</p>}
      {children}
    </fieldset>
  );
}

/** Several controls under one name. */
export function FieldGroup({ label, hint, children }: { label: string; hint?: ReactNode; children: ReactNode }): JSX.Element {
  const id = useId();
  return (
    <fieldset className="field" aria-describedby={hint ? id : undefined}>
      <legend className="field__label">{label}</legend>
      {hint && (
        <div className="field__hint" id={id}>
          {hint}
        </div>
      )}
      {children}
    </fieldset>
  );
}

function useDescribed(): { id?: string; "aria-describedby"?: string; "aria-invalid"?: true } {
  const field = useContext(FieldContext);
  if (!field) return {};
  return {
    id: field.id,
    ...(field.describedBy ? { "aria-describedby": field.describedBy } : {}),
    ...(field.invalid ? { "aria-invalid": true as const } : {}),
  };
}

export function TextInput({
  mono = false,
  className = "",
  ...rest
}: InputHTMLAttributes<HTMLInputElement> & { mono?: boolean }): JSX.Element {
  const described = useDescribed();
  return (
    <input
      type="text"
      autoComplete="off"
      spellCheck={false}
      {...described}
      {...rest}
      className={`input ${mono ? "input--mono" : ""} ${className}`}
    />
  );
}

export function TextArea({
  mono = false,
  className = "",
  ...rest
}: TextareaHTMLAttributes<HTMLTextAreaElement> & { mono?: boolean }): JSX.Element {
  const described = useDescribed();
  return (
    <textarea
      autoComplete="off"
      spellCheck={false}
      rows={3}
      {...described}
      {...rest}
      className={`input ${mono ? "input--mono" : ""} ${className}`}
    />
  );
}

export interface Choice {
  value: string;
  label: string;
}

export function Select({
  choices,
  className = "",
  ...rest
}: SelectHTMLAttributes<HTMLSelectElement> & { choices: readonly Choice[] }): JSX.Element {
  const described = useDescribed();
  return (
    <select {...described} {...rest} className={`input ${className}`}>
      {choices.map(({ value, label }) => (
        <option key={value} value={value}>
          {label}
        </option>
      ))}
    </select>
  );
}

export function Checkbox({
  label,
  hint,
  ...rest
}: InputHTMLAttributes<HTMLInputElement> & { label: ReactNode; hint?: ReactNode }): JSX.Element {
  const id = useId();
  return (
    <label className="check">
      <input type="checkbox" aria-describedby={hint ? id : undefined} {...rest} />
      <span>
        {label}
        {hint && (
          <span className="check__hint" id={id}>
            {hint}
          </span>
        )}
      </span>
    </label>
  );
}

/** A few choices, each with a word on what it means; arrow keys move among them. */
export function Segments({
  label,
  name,
  value,
  choices,
  onChange,
}: {
  label: string;
  name: string;
  value: string;
  choices: readonly (Choice & { about?: string })[];
  onChange: (value: string) => void;
}): JSX.Element {
  return (
    <fieldset className="field">
      <legend className="field__label">{label}</legend>
      <div className="segments">
        {choices.map((choice) => (
          <label className="segment" key={choice.value}>
            <input
              type="radio"
              name={name}
              value={choice.value}
              checked={value === choice.value}
              onChange={() => onChange(choice.value)}
            />
            <strong>{choice.label}</strong>
            {choice.about && <span className="small muted">{choice.about}</span>}
          </label>
        ))}
      </div>
    </fieldset>
  );
}
