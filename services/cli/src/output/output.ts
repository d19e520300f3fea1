/** Where a command writes: its answer to stdout, what happens meanwhile to stderr. */
export interface Output {
  /** True when the answer is to be one JSON value (or one a line, for streams). */
  readonly isJson: boolean;
  /** True when a person watches: bars may be drawn over themselves. */
  readonly isTerminal: boolean;
  /** The answer: as JSON with `--json`, else as lines for people. */
  answer(value: unknown, lines: () => readonly string[]): void;
  /** One item of an answer that comes bit by bit. */
  item(value: unknown, line: () => string): void;
  /** Something worth knowing meanwhile; nothing with `--json`. */
  note(text: string): void;
  /** Redraws one status line on a terminal; elsewhere prints it only when `isMilestone`. */
  status(text: string, isMilestone: boolean): void;
}

export interface Streams {
  readonly stdout: { write(text: string): unknown; readonly isTTY?: boolean };
  readonly stderr: { write(text: string): unknown; readonly isTTY?: boolean; readonly columns?: number };
}

export function createOutput(isJson: boolean, { stdout, stderr }: Streams = process): Output {
  const isTerminal = stderr.isTTY === true && !isJson;
  let hasStatus = false;
  const clearStatus = (): void => {
    if (hasStatus) stderr.write("\r\u001b[2K");
    hasStatus = false;
  };
  return {
    isJson,
    isTerminal,
    answer(value, lines) {
      clearStatus();
      stdout.write(
        isJson
          ? `${JSON.stringify(value, null, 2)}\n`
          : lines()
              .map((line) => `${line}\n`)
              .join(""),
      );
    },
    item(value, line) {
      clearStatus();
      stdout.write(`${isJson ? JSON.stringify(value) : line()}\n`);
    },
    note(text) {
      if (isJson) return;
      clearStatus();
      stderr.write(`${text}\n`);
    },
    status(text, isMilestone) {
      if (isJson) return;
      if (isTerminal) {
        clearStatus();
        stderr.write(text.slice(0, (stderr.columns ?? 100) - 1));
        hasStatus = true;
      } else if (isMilestone) stderr.write(`${text}\n`);
    },
  };
}
