import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { ensureTool } from "../build/build-tool.ts";
import { programOf } from "../build/tools.ts";
import type { ContainerRuntime } from "../build/container-runtime.ts";
import { Component } from "../component.ts";
import { freePort, type ControlPlane } from "../control-plane.ts";
import { pauseImage, ensureSmallImages } from "../images/small-images.ts";
import { ctr, importImage, writeRealNodeState } from "./real-node-state.ts";
import { addNodeAddress, networkConfiguration, type PodNetwork } from "./pod-network.ts";

const run = promisify(execFile);

/** A node with a real kubelet, containerd and runc on this computer. */
export interface RealNode {
  readonly name: string;
  readonly address: string;
}

export interface RealNodeOptions {
  readonly plane: ControlPlane;
  readonly network: PodNetwork;
  readonly runtime: ContainerRuntime;
  readonly index: number;
  /** Told of `containerd-<index>` and `kubelet-<index>` before they start, so that they end also when a start fails. */
  readonly add: (component: Component) => void;
}

/** Starts containerd and a kubelet, and waits until the node is ready. */
export async function startRealNode({ plane, network, runtime, index, add }: RealNodeOptions): Promise<RealNode> {
  const name = `real-${index}`;
  const folder = join(plane.folder, name);
  const cgroup = `${network.bridge}-${index}`;
  await mkdir(join(folder, "cni"), { recursive: true });
  await mkdir(join(folder, "seccomp"), { recursive: true });
  await run("mount", ["--make-rshared", "/"]); // volumes mounted by the kubelet must show in containers
  await createCgroup(cgroup);
  const address = await addNodeAddress(network, index);
  const socket = join(folder, "containerd.sock");
  const environment = {
    PATH: [...runtime.path, process.env["PATH"] ?? ""].join(":"),
    ...(runtime.libraries === null ? {} : { LD_LIBRARY_PATH: runtime.libraries }),
  };

  await writeRealNodeState(folder, { socket, ctr: runtime.ctr, cgroup, bridge: network.bridge, environment });
  await writeFile(
    join(folder, "cni", "10-drydock.conflist"),
    networkConfiguration(network, index, join(folder, "addresses")),
  );
  await writeFile(join(folder, "containerd.toml"), containerdConfiguration(folder, socket, runtime));
  const containerd = new Component({
    name: `containerd-${index}`,
    program: runtime.containerd,
    parameters: ["--config", join(folder, "containerd.toml")],
    environment,
    logPath: join(plane.folder, "logs", `containerd-${index}.log`),
    isReady: async () => (await ctr(folder, ["version"])).includes("Server"),
  });
  add(containerd);
  const [, images] = await Promise.all([containerd.start(), ensureSmallImages(), ensureTool("kubernetes")]);
  for (const archive of images) await importImage(folder, archive);

  const pair = await plane.authority.issue(name, { commonName: `system:node:${name}`, organization: "system:nodes" });
  const kubeconfig = await plane.kubeconfig(name, pair);
  const healthPort = await freePort();
  const configuration = kubeletConfiguration({ folder, socket, cgroup, address, healthPort, plane });
  await writeFile(join(folder, "kubelet.yaml"), JSON.stringify(configuration));
  const kubelet = new Component({
    name: `kubelet-${index}`,
    program: programOf("kubernetes", "kubelet"),
    parameters: [
      `--config=${join(folder, "kubelet.yaml")}`,
      `--kubeconfig=${kubeconfig}`,
      `--hostname-override=${name}`,
      `--node-ip=${address}`,
      `--root-dir=${join(folder, "kubelet")}`,
      `--cert-dir=${join(folder, "pki")}`,
      "--node-labels=drydock.dev/rack=real,topology.kubernetes.io/zone=zone-real",
    ],
    environment,
    logPath: join(plane.folder, "logs", `kubelet-${index}.log`),
    isReady: async () => await isNodeReady(plane, name),
  });
  add(kubelet);
  await kubelet.start();
  return { name, address };
}

async function isNodeReady(plane: ControlPlane, name: string): Promise<boolean> {
  const node = await plane.admin.find(`/api/v1/nodes/${name}`);
  const { conditions = [] } = (node?.["status"] ?? {}) as { conditions?: { type: string; status: string }[] };
  return conditions.some(({ type, status }) => type === "Ready" && status === "True");
}

function containerdConfiguration(folder: string, socket: string, runtime: ContainerRuntime): string {
  return `version = 2
root = "${join(folder, "containerd")}"
state = "${join(folder, "containerd-state")}"
oom_score = 0
[grpc]
  address = "${socket}"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  sandbox_image = "${pauseImage}"
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${runtime.networkPlugins}"
    conf_dir = "${join(folder, "cni")}"
`;
}

interface KubeletSettings {
  readonly folder: string;
  readonly socket: string;
  readonly cgroup: string;
  readonly address: string;
  readonly healthPort: number;
  readonly plane: ControlPlane;
}

function kubeletConfiguration({ folder, socket, cgroup, address, healthPort, plane }: KubeletSettings): object {
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    address,
    port: 10_250,
    readOnlyPort: 0,
    healthzBindAddress: "127.0.0.1",
    healthzPort: healthPort,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: false },
      x509: { clientCAFile: plane.authority.certificate },
    },
    authorization: { mode: "AlwaysAllow" },
    containerRuntimeEndpoint: `unix://${socket}`,
    cgroupDriver: "cgroupfs",
    cgroupRoot: `/${cgroup}`,
    failCgroupV1: false,
    failSwapOn: false,
    enforceNodeAllocatable: [],
    oomScoreAdj: 0,
    serializeImagePulls: false,
    imageGCHighThresholdPercent: 100,
    evictionHard: { "memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
    podLogsDir: join(folder, "pod-logs"),
    volumePluginDir: join(folder, "volume-plugins"),
    resolvConf: "",
    // A lost node must show within seconds in tests.
    nodeStatusUpdateFrequency: "2s",
    nodeStatusReportFrequency: "10s",
    nodeLeaseDurationSeconds: 4,
    syncFrequency: "5s",
    volumeStatsAggPeriod: "1s",
    shutdownGracePeriod: "0s",
  };
}

const cgroupRoot = "/sys/fs/cgroup";
/** Of the processor, against 1024 of each process outside: else all pods of a node together get as much as one test does. */
const nodeCpuShares = 4096;

/** A group of the node's own in every hierarchy: two kubelets in one group would end each other's pods. */
async function createCgroup(name: string): Promise<void> {
  for (const entry of await readdir(cgroupRoot, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    const group = join(cgroupRoot, entry.name, name);
    await mkdir(group, { recursive: true });
    if (entry.name.split(",").includes("cpu")) await writeFile(join(group, "cpu.shares"), String(nodeCpuShares));
    if (entry.name !== "cpuset") continue;
    for (const file of ["cpuset.cpus", "cpuset.mems"])
      await writeFile(join(group, file), await readFile(join(cgroupRoot, entry.name, file), "utf8"));
  }
}
