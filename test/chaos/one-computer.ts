import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { FolderStorage, type ObjectStorage } from "@drydock/kit";
import type { Embedded } from "../support/embedded.ts";
import type { LiveWorker, NamedText, Site } from "./site.ts";
import { workerProcesses } from "./worker-processes.ts";

/** A Drydock whose workers are processes and whose storage is a folder: the default. */
export class OneComputer implements Site {
  readonly drydock: Embedded;
  readonly storage: ObjectStorage;

  constructor(drydock: Embedded) {
    this.drydock = drydock;
    this.storage = new FolderStorage(join(drydock.stateDirectory, "storage"));
  }

  async liveWorkers(): Promise<(LiveWorker & { readonly pid: number })[]> {
    return await workerProcesses(`DRYDOCK_SCRATCH=${this.drydock.stateDirectory}/`);
  }

  async leftovers(runIds: readonly string[]): Promise<string[]> {
    const left = (await this.liveWorkers()).filter(({ runId }) => runIds.includes(runId));
    return left.map(({ runId, pid }) => `run ${runId} is over and has worker ${pid}`);
  }

  async secrets(): Promise<string[]> {
    const { stateDirectory } = this.drydock;
    const attempts = join(stateDirectory, "controller", "attempts");
    const names = await readdir(attempts).catch(() => []);
    return await secretsIn([join(stateDirectory, "settings.json"), ...names.map((name) => join(attempts, name))]);
  }

  async texts(): Promise<NamedText[]> {
    const { stateDirectory } = this.drydock;
    return [
      ...(await logsIn(join(stateDirectory, "logs"))),
      ...(await logsIn(join(stateDirectory, "storage", "runs"))),
    ];
  }
}

/** Keys and tokens that JSON files of Drydock hold. @throws Error when there are none: then they are elsewhere */
export async function secretsIn(files: readonly string[]): Promise<string[]> {
  const texts = await Promise.all(files.map(async (file) => await readFile(file, "utf8").catch(() => "")));
  const secrets = texts.flatMap((text) =>
    [...text.matchAll(/"(?:apiKey|internalKey|token)":\s*"([^"]{16,})"/g)].map(([, secret]) => secret ?? ""),
  );
  if (secrets.length < 2) throw new Error(`no keys found in ${files.join(", ")}: the oracle looks in the wrong place`);
  return secrets;
}

/** Every `.log` below a folder. */
export async function logsIn(folder: string): Promise<NamedText[]> {
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  const logs = names.filter((name) => name.endsWith(".log"));
  return await Promise.all(logs.map(async (name) => ({ name, text: await readFile(join(folder, name), "utf8") })));
}
