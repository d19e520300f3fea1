import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile, readdir } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { Cluster, type ClusterConnection } from "./cluster.ts";
import { smallImage } from "./images/small-images.ts";
import { jobOf, succeeds } from "./job-fixtures.ts";
import { realNodesMissing } from "./shared-cluster.ts";

const program = `
const { Cluster } = await import(${JSON.stringify(pathToFileURL(join(import.meta.dirname, "cluster.ts")).href)});
const cluster = await Cluster.start({ nodes: [], realNodes: 1 });
console.log(JSON.stringify(cluster.connection));
setInterval(() => {}, 1000);`;

test.skipIf(realNodesMissing() !== null)(
  "a cluster whose owner is killed with -9 leaves no process, no mount, no network and no folder",
  async () => {
    const owner = spawn(process.execPath, ["--input-type=module", "--eval", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = (await once(createInterface({ input: owner.stdout }), "line")) as [string];
    const connection = JSON.parse(line) as ClusterConnection;
    const cluster = await Cluster.connect(connection);
    const namespace = await cluster.namespace("killed");
    const job = jobOf("pod", { ranks: 1, image: smallImage, command: ["pause"] });
    await cluster.admin.call("POST", `/apis/batch/v1/namespaces/${namespace}/jobs`, job);
    await succeeds(async () => {
      expect(await cluster.pods(namespace)).toMatchObject([{ status: { phase: "Running" } }]);
    });
    owner.kill("SIGKILL");
    await succeeds(async () => expect(existsSync(connection.folder)).toBe(false));
    expect(await commandsNaming(connection.folder)).toEqual([]);
    expect(await readFile("/proc/self/mountinfo", "utf8")).not.toContain(connection.folder);
    const addresses = Object.values(networkInterfaces()).flatMap((list) => list?.map(({ address }) => address) ?? []);
    expect(addresses).not.toContain(connection.hostAddress);
  },
);

async function commandsNaming(folder: string): Promise<string[]> {
  const ids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const commands = await Promise.all(ids.map((id) => readFile(`/proc/${id}/cmdline`, "utf8").catch(() => "")));
  return commands.filter((command) => command.includes(folder) && !command.includes("janitor.ts"));
}
