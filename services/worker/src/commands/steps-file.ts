import { appendFileSync, existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import type { StepReport } from "../training/training-listener.ts";

/** `steps.jsonl`: one line per step with every digit of its numbers. Written in place, step by step, so that it can be followed. */
export class StepsFile {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** Keeps the lines of the first `step` steps: those after it are about to be taken again. */
  rewindTo(step: number): void {
    if (!existsSync(this.#path)) return;
    const kept = readFileSync(this.#path, "utf8")
      .split("\n")
      .filter((line) => stepOf(line) !== null && (stepOf(line) ?? 0) <= step);
    writeFileSync(`${this.#path}.part`, kept.map((line) => `${line}\n`).join(""));
    renameSync(`${this.#path}.part`, this.#path);
  }

  append({ step, loss, learningRate, gradientNorm, tokens, seconds }: StepReport): void {
    appendFileSync(this.#path, `${JSON.stringify({ step, loss, learningRate, gradientNorm, tokens, seconds })}\n`);
  }
}

/** The step of a line; null for a line that a killed process left unfinished. */
function stepOf(line: string): number | null {
  const matched = /^\{"step":(\d+),.*\}$/.exec(line);
  return matched?.[1] === undefined ? null : Number(matched[1]);
}
