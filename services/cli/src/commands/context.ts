import { InvalidError } from "@drydock/kit";
import { parseModelReference, type ParsedModelReference } from "@drydock/spec";
import type { Command } from "commander";
import { findConnection } from "../client/connection.ts";
import { DrydockClient } from "../client/drydock-client.ts";
import { EvaluationClient } from "../client/evaluation-client.ts";
import { HttpClient } from "../client/http.ts";
import { PipelineClient } from "../client/pipeline-client.ts";
import { RegistryClient } from "../client/registry-client.ts";
import { SweepClient } from "../client/sweep-client.ts";
import { WebhookClient } from "../client/webhook-client.ts";
import { createOutput, type Output } from "../output/output.ts";

/** Options that every command takes. */
export interface GlobalOptions {
  readonly json?: boolean;
  readonly url?: string;
  readonly key?: string;
  readonly state?: string;
}

/** What a command works with. */
export interface CommandContext {
  readonly output: Output;
  /** The server; looked for at the first use, so that a command without one needs none. */
  readonly client: () => DrydockClient;
  /** The server's model registry, the same way. */
  readonly registry: () => RegistryClient;
  /** Suites, comparisons and reports of evaluations, the same way. */
  readonly evaluation: () => EvaluationClient;
  /** Sweeps, the same way. */
  readonly sweeps: () => SweepClient;
  /** Pipelines, the same way. */
  readonly pipelines: () => PipelineClient;
  /** Webhooks, the same way. */
  readonly webhooks: () => WebhookClient;
  readonly options: GlobalOptions;
  /** Fires at the first Ctrl-C. */
  readonly signal: AbortSignal;
}

/** The context of a command that is being run. */
export function contextOf(command: Command): CommandContext {
  const options: GlobalOptions = command.optsWithGlobals();
  let client: DrydockClient | null = null;
  const http = (): HttpClient => new HttpClient(findConnection(options));
  return {
    output: createOutput(options.json === true),
    client: () => (client ??= new DrydockClient(http())),
    registry: () => new RegistryClient(http()),
    evaluation: () => new EvaluationClient(http()),
    sweeps: () => new SweepClient(http()),
    pipelines: () => new PipelineClient(http()),
    webhooks: () => new WebhookClient(http()),
    options,
    signal: interruption(),
  };
}

let controller: AbortController | null = null;

function interruption(): AbortSignal {
  if (controller === null) {
    const created = new AbortController();
    controller = created;
    process.once("SIGINT", () => created.abort());
  }
  return controller.signal;
}

/** Parses an option that is a whole number of at least `lowest`. @throws InvalidError `usage` */
export function wholeNumber(option: string, lowest: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== "" && Number.isInteger(value) && value >= lowest) return value;
    throw new InvalidError("usage", `${option} takes a whole number of at least ${lowest}, not "${text}"`);
  };
}

/** Parses an option that is one of a closed list. @throws InvalidError `usage` */
export function oneOf<Choice extends string>(option: string, choices: readonly Choice[]): (text: string) => Choice {
  return (text) => {
    const choice = choices.find((candidate) => candidate === text);
    if (choice !== undefined) return choice;
    throw new InvalidError("usage", `${option} takes one of ${choices.join(", ")}, not "${text}"`);
  };
}

/** Splits `name@version`; version null when there is none. @throws InvalidError `usage` */
export function splitReference(reference: string): { readonly name: string; readonly version: number | null } {
  const match = /^([a-z0-9][a-z0-9.-]*)(?:@([1-9][0-9]*))?$/.exec(reference);
  if (match === null) throw new InvalidError("usage", `"${reference}" is not a name or name@version, e.g. weld@3`);
  return { name: match[1]!, version: match[2] === undefined ? null : Number(match[2]) };
}

/** Splits `name`, `name@version` or `name@alias` of a model. @throws InvalidError `usage` */
export function splitModelReference(reference: string): ParsedModelReference {
  const parsed = parseModelReference(reference);
  if (parsed !== null) return parsed;
  throw new InvalidError("usage", `"${reference}" is not a name, name@version or name@alias, e.g. weld@production`);
}
