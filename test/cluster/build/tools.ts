import { join } from "node:path";
import { toolCache } from "../../../services/cli/src/up/temporal-server.ts";

/** A server of the test cluster, built from its Go module. */
export interface Tool {
  readonly name: string;
  readonly version: string;
  readonly module: string;
  /** What `go build` compiles in the folder of its go.mod, or what `go install` gets. */
  readonly package: string;
  /** True when the published module cannot be installed alone, so that a go.mod beside this file names it. */
  readonly hasOwnModule: boolean;
  readonly program: string;
  readonly linkerFlags: string;
  /** Other names of the program. */
  readonly links: readonly string[];
  /** Folders of the module that are needed when it runs (definitions, webhooks, stages), kept beside the program. */
  readonly moduleFolders: readonly string[];
}

const kubernetesVersion = "1.34.10";
const versionPackage = "k8s.io/component-base/version";
const plain = { linkerFlags: "-s -w", links: [], moduleFolders: [] } as const;

/** In the order in which they are built: the longest first. */
export const tools = {
  kubernetes: {
    ...plain,
    name: "kubernetes",
    version: kubernetesVersion,
    module: "k8s.io/kubernetes",
    package: ".",
    hasOwnModule: true,
    program: "kube",
    linkerFlags: `-s -w -X ${versionPackage}.gitVersion=v${kubernetesVersion} -X ${versionPackage}.gitMajor=1 -X ${versionPackage}.gitMinor=34`,
    links: ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"],
  },
  etcd: {
    ...plain,
    name: "etcd",
    version: "3.6.14",
    module: "go.etcd.io/etcd/server/v3",
    package: "go.etcd.io/etcd/server/v3",
    hasOwnModule: true,
    program: "etcd",
  },
  kwok: {
    ...plain,
    name: "kwok",
    version: "0.8.0",
    module: "sigs.k8s.io/kwok",
    package: "sigs.k8s.io/kwok/cmd/kwok",
    hasOwnModule: false,
    program: "kwok",
    moduleFolders: ["kustomize/stage"],
  },
  kueue: {
    ...plain,
    name: "kueue",
    version: "0.18.3",
    module: "sigs.k8s.io/kueue",
    package: "sigs.k8s.io/kueue/cmd/kueue",
    hasOwnModule: true,
    program: "kueue",
    moduleFolders: ["config/components/crd/bases", "config/components/webhook"],
  },
  jobset: {
    ...plain,
    name: "jobset",
    version: "0.12.0",
    module: "sigs.k8s.io/jobset",
    package: "sigs.k8s.io/jobset",
    hasOwnModule: true,
    program: "jobset",
    moduleFolders: ["config/components/crd/bases", "config/components/webhook"],
  },
  /** Our own: what holds the sandbox of each pod on a real kubelet, and small workloads. */
  "pod-program": {
    ...plain,
    name: "pod-program",
    version: "1",
    module: "drydock.local/tools/pod-program",
    package: ".",
    hasOwnModule: true,
    program: "pod-program",
  },
} as const satisfies Record<string, Tool>;

export type ToolName = keyof typeof tools;

/** The folder of one tool; it holds `program`, its links and `moduleFolders` once it is built. */
export function toolFolder(name: ToolName): string {
  return join(toolCache(), `${name}-${tools[name].version}`);
}

export function programOf(name: ToolName, link?: string): string {
  return join(toolFolder(name), link ?? tools[name].program);
}
