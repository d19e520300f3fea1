import { execFile } from "node:child_process";
import { networkInterfaces } from "node:os";
import { promisify } from "node:util";

const run = promisify(execFile);

/** A bridge that pods of all real nodes of one cluster share, and by which they reach this computer. */
export interface PodNetwork {
  readonly bridge: string;
  /** This computer, as pods see it; servers that pods talk to listen here. */
  readonly hostAddress: string;
  /** First two numbers of every address. */
  readonly prefix: string;
}

/** Makes a bridge with a private network that this computer does not use yet. */
export async function createPodNetwork(): Promise<PodNetwork> {
  const used = Object.values(networkInterfaces()).flatMap((list) => list?.map(({ address }) => address) ?? []);
  for (let second = 200; second < 255; second++) {
    const prefix = `10.${second}`;
    if (used.some((address) => address.startsWith(`${prefix}.`))) continue;
    const bridge = `drydock${second}`;
    try {
      await run("ip", ["link", "add", bridge, "type", "bridge"]);
    } catch (error) {
      if (String(error).includes("File exists")) continue; // another cluster took it
      throw error;
    }
    await run("ip", ["address", "add", `${prefix}.0.1/16`, "dev", bridge]);
    await run("ip", ["link", "set", bridge, "up"]);
    return { bridge, hostAddress: `${prefix}.0.1`, prefix };
  }
  throw new Error("no free network 10.200.0.0/16 … 10.254.0.0/16 on this computer");
}

/** Gives one node its address on the bridge: it may not be a loopback one. The first node's is the host's. */
export async function addNodeAddress(network: PodNetwork, index: number): Promise<string> {
  const address = `${network.prefix}.0.${index + 1}`;
  if (index > 0) await run("ip", ["address", "add", `${address}/16`, "dev", network.bridge]);
  return address;
}

/** Configuration for the network plugins on one node. */
export function networkConfiguration(network: PodNetwork, index: number, folder: string): string {
  const range = {
    subnet: `${network.prefix}.0.0/16`,
    rangeStart: `${network.prefix}.${index + 1}.1`,
    rangeEnd: `${network.prefix}.${index + 1}.254`,
    gateway: network.hostAddress,
  };
  const bridge = {
    type: "bridge",
    bridge: network.bridge,
    ipMasq: false,
    ipam: { type: "host-local", dataDir: folder, ranges: [[range]], routes: [{ dst: "0.0.0.0/0" }] },
  };
  return JSON.stringify({ cniVersion: "1.0.0", name: "drydock", plugins: [bridge] });
}

/** Takes the bridge away, and the network name spaces of pods that are still tied to it. */
export async function removePodNetwork(bridge: string): Promise<void> {
  const { stdout } = await run("ip", ["link", "show", "master", bridge]).catch(() => ({ stdout: "" }));
  for (const [, space] of stdout.matchAll(/link-netns (cni-[\w-]+)/g))
    if (space !== undefined) await run("ip", ["netns", "delete", space]);
  await run("ip", ["link", "delete", bridge]).catch((error: unknown) => {
    if (!String(error).includes("Cannot find device")) throw error;
  });
}
