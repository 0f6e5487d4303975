// Fields that belong to something stored: what is typed is kept at Enter or when the field is left, not at every key.

import type { JSX, KeyboardEvent } from "react";
import { useEffect, useRef, useState } from "react";
import { same } from "../graph/drawing";
import { Checkbox, Field, TextArea, TextInput } from "../parts";
import { readWords, shownWords } from "../parts/words";

interface Draft {
  text: string;
  setText: (text: string) => void;
  keep: () => void;
  onKeyDown: (event: KeyboardEvent) => void;
}

/** A text that can be typed over. As long as nothing is typed, it is what is stored, whoever changes that. */
function useDraft(stored: string, onKeep: (text: string) => void, keepAtEnter: boolean): Draft {
  const [text, setText] = useState(stored);
  const typed = useRef(false);
  useEffect(() => {
    if (!typed.current) setText(stored);
  }, [stored]);
  const keep = (): void => {
    if (typed.current && text !== stored) onKeep(text);
    typed.current = false;
  };
  const latest = useRef(keep);
  latest.current = keep;
  // The field goes away with its node deselected: what was typed counts.
  useEffect(() => () => latest.current(), []);
  return {
    text,
    setText: (next) => {
      typed.current = next !== stored;
      setText(next);
    },
    keep,
    onKeyDown: (event) => {
      if (event.key === "Enter" && keepAtEnter) keep();
      else if (event.key === "Escape" && text !== stored) {
        event.stopPropagation();
        typed.current = false;
        setText(stored);
      }
    },
  };
}

export function DraftInput({
  label,
  value,
  onKeep,
  hint,
  error,
  placeholder,
  mono = false,
  multiline = false,
  maxLength,
}: {
  label: string;
  value: string;
  onKeep: (value: string) => void;
  hint?: string | undefined;
  error?: string | null | undefined;
  placeholder?: string;
  mono?: boolean;
  /** Enter begins a line; what is typed is kept when the field is left. */
  multiline?: boolean;
  maxLength?: number;
}): JSX.Element {
  const draft = useDraft(value, onKeep, !multiline);
  const Control = multiline ? TextArea : TextInput;
  return (
    <Field label={label} hint={hint} error={error}>
      <Control
        mono={mono}
        value={draft.text}
        placeholder={placeholder}
        maxLength={maxLength}
        onChange={(event) => draft.setText(event.target.value)}
        onBlur={draft.keep}
        onKeyDown={draft.onKeyDown}
      />
    </Field>
  );
}

/** Several texts, one a line where that is possible. */
export function DraftLines({
  label,
  lines,
  onKeep,
  hint,
  placeholder,
}: {
  label: string;
  /** `null`: none are stored, which is not the same as none. */
  lines: readonly string[] | null;
  onKeep: (lines: string[]) => void;
  hint?: string;
  placeholder?: string;
}): JSX.Element {
  const shown = shownWords(lines ?? []);
  const keep = (text: string): void => {
    const words = readWords(text, shown);
    if (words && !same(words, lines)) onKeep(words);
  };
  const draft = useDraft(shown, keep, false);
  const error = readWords(draft.text, shown) ? null : 'No JSON list of texts, such as ["-c", "a b"]: it is not kept.';
  return (
    <Field label={label} hint={hint} error={error}>
      <TextArea
        mono
        value={draft.text}
        placeholder={placeholder}
        onChange={(event) => draft.setText(event.target.value)}
        onBlur={draft.keep}
        onKeyDown={draft.onKeyDown}
      />
    </Field>
  );
}

/** Words of a command line, or the service's own. */
export function CommandField({
  label,
  value,
  onKeep,
}: {
  label: string;
  value: readonly string[] | null;
  onKeep: (value: string[] | null) => void;
}): JSX.Element {
  const [open, setOpen] = useState(false);
  // What is stored, or taken back by undo, says from then on whose words they are.
  useEffect(() => setOpen(false), [value]);
  const isOwn = value !== null || open;
  return (
    <div className="stack stack--tight">
      <Checkbox
        label={`${label}: as the service has it`}
        checked={!isOwn}
        onChange={(event) => {
          setOpen(!event.target.checked);
          if (event.target.checked && value !== null) onKeep(null);
        }}
      />
      {isOwn && (
        <DraftLines
          label={label}
          lines={value}
          onKeep={onKeep}
          hint={
            value === null
              ? "One argument a line, [] for none at all. Until something is written it stays as the service has it."
              : "One argument a line; a JSON list where one is empty or holds a line break."
          }
        />
      )}
    </div>
  );
}
