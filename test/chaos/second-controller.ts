import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { readdir, readFile, readlink } from "node:fs/promises";
import { join, resolve } from "node:path";
import { freePort } from "../cluster/control-plane.ts";
import { until } from "../support/embedded.ts";
import type { ClusterStage } from "./cluster-stage.ts";

const repository = resolve(import.meta.dirname, "..", "..");

/** Another controller of the same installation, as a Deployment with two replicas has it. It serves once it leads. */
export class SecondController {
  readonly host: string;
  readonly port: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, host: string, port: number) {
    this.#child = child;
    this.host = host;
    this.port = port;
  }

  /** @param environment  beyond that of the installation */
  static async start(stage: ClusterStage, environment: Readonly<Record<string, string>>): Promise<SecondController> {
    const { ports, internalKey } = await stage.settings();
    const port = await freePort(stage.cluster.hostAddress);
    const log = openSync(join(stage.drydock.stateDirectory, "logs", "controller-2.log"), "a", 0o600);
    const child = spawn(process.execPath, [join(repository, "services", "controller", "src", "main.ts")], {
      stdio: ["pipe", log, log],
      env: {
        ...process.env,
        ...stage.environment,
        DRYDOCK_INTERNAL_KEY: internalKey,
        MODELS_DIRECTORY: join(repository, "models"),
        TEMPORAL_ADDRESS: `127.0.0.1:${ports.temporal}`,
        DRYDOCK_API_URL: `http://127.0.0.1:${ports.api}`,
        CONTROLLER_PORT: String(port),
        DRYDOCK_CONTROLLER_STATE: join(stage.scratch, "controller-2"),
        DRYDOCK_PARENT_PIPE: "1",
        ...environment,
      },
    });
    closeSync(log);
    return new SecondController(child, stage.cluster.hostAddress, port);
  }

  /** True when it serves workers, which only the leader does: it is this process that listens, nobody who has its port. */
  async leads(): Promise<boolean> {
    return (await listeningSockets(this.#child.pid ?? 0)).length > 0;
  }

  /** SIGTERM, and waits for the end: the lead is given back. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGTERM");
    await ended;
  }
}

/** TCP sockets by which a process listens, as Linux tells: state 0A in the tables of its network, by inode. */
async function listeningSockets(pid: number): Promise<string[]> {
  const tables = await Promise.all(["tcp", "tcp6"].map((name) => readFile(`/proc/${pid}/net/${name}`, "utf8")));
  const rows = tables.flatMap((table) => table.trim().split("\n").slice(1)).map((row) => row.trim().split(/\s+/));
  const listening = new Set(rows.filter((row) => row[3] === "0A").map((row) => `socket:[${row[9]}]`));
  const files = await readdir(`/proc/${pid}/fd`);
  const opened = await Promise.all(files.map((file) => readlink(`/proc/${pid}/fd/${file}`).catch(() => "")));
  return opened.filter((file) => listening.has(file));
}

/** The Lease by which controllers agree on who leads. */
export async function leaseOf({ cluster }: ClusterStage): Promise<{ holderIdentity?: string; renewTime?: string }> {
  const path = "/apis/coordination.k8s.io/v1/namespaces/drydock-system/leases/drydock-controller";
  return (await cluster.admin.call("GET", path))["spec"] as { holderIdentity?: string; renewTime?: string };
}

export async function leaderOf(stage: ClusterStage): Promise<string> {
  return (await leaseOf(stage)).holderIdentity ?? "";
}

/** Waits until another one leads. */
export async function anotherLeads(stage: ClusterStage, than: string): Promise<string> {
  return await until(`another controller than ${than} leads`, async () => {
    const leader = await leaderOf(stage).catch(() => than);
    return leader !== than && leader !== "" ? leader : null;
  });
}
